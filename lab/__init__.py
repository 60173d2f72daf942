"""The replica lab: a local copy of an upload service that fails as production does.

For a notebook; both are in `lab.notebook`:

    import lab

    run = lab.run_experiment("workers-x-pool")     the lab's own spec of that name, or a file
    run = lab.load_run("latest")                   a stored run
    {cell.id: (cell.verdict, cell.metrics["p95"]) for cell in run.summary().cells}
"""

TYPE_CHECKING = False  # as that of typing, which takes longer to import than all of this
if TYPE_CHECKING:
    from lab.notebook import load_run as load_run
    from lab.notebook import run_experiment as run_experiment

__version__ = "0.1.0"
__all__ = ["load_run", "run_experiment"]


def __getattr__(name: str) -> object:
    """Import what a notebook asks for when it does: every program of the lab imports this file."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lab import notebook

    return getattr(notebook, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
