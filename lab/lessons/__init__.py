"""The course: lessons on the running replica, one folder each, and an examination.

    course     the lessons, read and in order
    figures    templates: every figure in a text comes from a run, a knob, a load or a source
    predict    an answer, held against the run
    grade      a learner's change, held against the run before it
    progress   how far a learner is: a file of the user's
    views      what is shown, as blocks, Markdown and one page; pure
    notebook   a lesson as a notebook
    classes    a class's results
    exam       a hidden fault: drawn, sealed, graded

Nothing here starts a replica: `lab.cli` does, and hands over what was measured.
"""
