"""``python -m lab``; says so where Python is too old to read the rest."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the very message for those who have less
    sys.stderr.write(
        "lab: Python %d.%d is too old - use Python 3.11 or later\n" % sys.version_info[:2]  # noqa: UP031
    )
    sys.exit(3)

from lab.cli import main

main()
