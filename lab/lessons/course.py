"""The lessons, read and in their order; which one is meant, and which comes next."""

from __future__ import annotations

from collections.abc import Sequence

from lab.errors import UsageError
from lab.model.lessons import LearnerProgress, LessonFolder
from lab.model.suggest import suggest


def find_lesson(course: Sequence[LessonFolder], asked: str) -> LessonFolder:
    """The lesson that is meant, by its number or its name.

    Raises:
        UsageError: none is.
    """
    wanted = asked.strip().lower()
    for folder in course:
        if wanted in (folder.name, f"{folder.number:02}-{folder.name}", str(folder.number)):
            return folder
        if wanted.isdecimal() and wanted.isascii() and int(wanted) == folder.number:
            return folder
    if wanted.isdecimal():
        last = course[-1].number
        raise UsageError(f"there is no lesson {asked[:20]}", f"they are 1 to {last}, and exam")
    names = [*(folder.name for folder in course), "exam"]
    raise UsageError(f"'{asked[:60]}' is no lesson", suggest(asked, names, "see `lab learn`"))


def open_needs(
    course: Sequence[LessonFolder], folder: LessonFolder, progress: LearnerProgress
) -> list[LessonFolder]:
    """The lessons that one builds on, and that are not passed yet."""
    by_number = {one.number: one for one in course}
    needed = (by_number[number] for number in folder.lesson.needs if number in by_number)
    return [one for one in needed if not progress.of(one.name).passed]


def next_lesson(course: Sequence[LessonFolder], progress: LearnerProgress) -> LessonFolder | None:
    """The first that is not passed; None where all are."""
    return next((one for one in course if not progress.of(one.name).passed), None)
