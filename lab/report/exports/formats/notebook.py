"""A run as a Jupyter notebook, which loads it with ``lab.load_run``."""

from __future__ import annotations

from collections.abc import Iterator

from lab.report.exports.run import ExportedRun, Format
from lab.report.notebooks import run_notebook


def written(run: ExportedRun) -> Iterator[bytes]:
    """The notebook."""
    yield run_notebook(run.info.name, run.info.experiment.experiment).encode()


FORMAT = Format("a Jupyter notebook that loads the run", {"notebook.ipynb": written})
