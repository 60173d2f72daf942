"""The live page: what a run's folder says, while it is written and afterwards; changes nothing.

run folder ──follow──> Track ──frame(t)──> View ──render──> regions of a page ──> browsers
           ──replay──>                                       (server-sent events)

track    a cell's trial as it is known so far: a pure function from lines to a frame
parts    of a frame: the replica's parts, each with how full it is
follow   reads a run's folder on, a look at a time
replay   the same of a stored run, at any moment of it
render   a view as HTML, region by region
live     what a page is told of its changes, by server-sent events
guard    who may ask, and what an answer allows a browser
app      the application; each of its pages is a file under ``pages/``
serve    the application on a socket of 127.0.0.1
"""
