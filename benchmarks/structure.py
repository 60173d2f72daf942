"""How a package is cut: ``python -m benchmarks.structure [FOLDER...]``, by default ``lab``.

files, lines         of every ``*.py`` below the folder
lines of code        without blank lines, comments and docstrings
private, one caller  functions and methods whose name begins with one underscore and that
                     are named in exactly one place of their file beside their definition
median, largest      lines of a module, empty ones left out
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from pathlib import Path

import click

SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_code(source: str) -> int:
    """Lines that hold a token of code."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            left_out.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - left_out)


def functions(tree: ast.Module) -> list[Function]:
    """Every function and method, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def with_one_caller(tree: ast.Module) -> int:
    """Private functions that are named once beside their definition."""
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    )
    return sum(
        function.name.startswith("_")
        and not function.name.startswith("__")
        and uses[function.name] == 1
        for function in functions(tree)
    )


HEADS = (
    "folder | files / lines | files per 1,000 lines of code | private, 1 caller | median / largest"
)


def row(folder: str) -> str:
    """The figures of a folder; files without a line are left out."""
    files = sorted(Path(folder).rglob("*.py"))
    sources = [text for file in files if (text := file.read_text(encoding="utf-8"))]
    trees = [ast.parse(source) for source in sources]
    lengths = [len(source.splitlines()) for source in sources]
    code = sum(map(lines_of_code, sources))
    private, every = sum(map(with_one_caller, trees)), sum(len(functions(tree)) for tree in trees)
    return " | ".join(
        [
            folder,
            f"{len(sources)} / {sum(lengths):,}",
            f"{1000 * len(sources) / code:.1f} ({code:,})",
            f"{private} of {every} ({private / every:.0%})",
            f"{statistics.median(lengths):g} / {max(lengths)}",
        ]
    )


if __name__ == "__main__":
    click.echo("\n".join([HEADS, *map(row, sys.argv[1:] or ["lab"])]))
