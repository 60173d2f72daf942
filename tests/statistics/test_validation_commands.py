"""What the commands of `validation` refuse: where nothing is looked at, nothing could be wrong."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest

COUNTS = [
    ("kills", "--count"),
    ("damage", "--changes"),
    ("damage", "--processes"),
    ("damage", "--only"),
    ("strikes", "--repeat"),
    ("contradictions", "--cells"),
    ("waiting", "--draw"),
    ("speeds", "--cells"),
    ("pairs", "--pairs"),
    ("pairs", "--replica"),
]


@pytest.mark.parametrize("count", ["0", "-3", "many", "²"])
@pytest.mark.parametrize(("command", "option"), COUNTS, ids=" ".join)
def test_a_count_of_nothing_is_refused(
    command: str,
    option: str,
    count: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [f"{option}={count}"]
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    main = importlib.import_module(f"validation.{command}").main
    with pytest.raises(SystemExit) as ended:
        main(*([arguments] if inspect.signature(main).parameters else []))
    assert ended.value.code == 2
    assert f"{option}: '{count}' is no whole number of 1 or more" in capsys.readouterr().err
