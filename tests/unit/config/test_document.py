from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.config.document import one_line, read_document, scalar
from lab.errors import SpecError


def document(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "a.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("no", "no"),
        ("True", "True"),
        ("true", True),
        ("false", False),
        ("5", 5),
        ("-5", -5),
        ("010", "010"),
        ("0o7", "0o7"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("9" * 30, 1e30),
        ("", None),
        ("null", None),
        ("~", None),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@given(st.text())
def test_any_text_is_some_scalar_and_fits_one_line(text: str) -> None:
    assert isinstance(scalar(text), str | int | float | bool | None)
    assert len(one_line(text).splitlines()) <= 1


def test_positions_of_keys_and_values_count_from_one(tmp_path: Path) -> None:
    found = read_document(document(tmp_path, "a: x\nb:\n  - off\n  - '5'\n"))
    assert found.value == {"a": "x", "b": ["off", "5"]}
    assert found.position(("b",), at_key=True) == (2, 1)
    assert found.position(("b", 1)) == (4, 5)
    assert found.position(("b", 7, "not there")) == (3, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the file is empty - write a mapping of keys to values"),
        ("# only a remark\n", ": the file is empty - "),
        ("- a\n- b\n", ":1:1: not a mapping - write keys with values, as `experiment: name`"),
        ("just text", ":1:1: not a mapping - "),
        ("a: 1\nb: 2\na: 3\n", ":3:1: 'a' stands here again; it was first given in line 1 - "),
        ("a:\n  b: 1\n  b: 2\n", ":3:3: 'b' stands here again; it was first given in line 2 - "),
        (
            "a: [1, 2\nb: 3",
            ":2:2: not YAML: expected ',' or ']', but got ':' while parsing a flow seq",
        ),
        (
            "a:\n\t- b\n",
            ":2:1: not YAML: found character '\\t' that cannot start any token while sc",
        ),
        ("a: 1\n---\nb: 2\n", ":2:1: not YAML: but found another document expected"),
        ("b: *x\na: &x 1\n", ":1:4: an alias (*x) is not read here - write the value out"),
        ("a: &x\n  - *x\n", ":1:4: an anchor (&x) is not read here - leave it out"),
        ("a: !!python/name:os.system x\n", ":1:4: a tag (tag:yaml.org,2002:python/name:os.system"),
        ("a: 1\nb:\n", ":2:1: 'b' has no value - give one, or leave it out"),
        ("a: [1, null]\n", ":1:8: entry 2 of 'a' has no value - "),
        ("? [a, b]\n: 1\n", ":1:3: a key that is not text - "),
        ("a: " + "[" * 5000, ":1:23: nested too deeply - a spec is four levels deep"),
        (b"a: \xff\n", ":1:4: not UTF-8: byte 0xFF - save the file as UTF-8"),
        (b"ok: 1\na: \x00\n", ":2:4: a character YAML does not allow: U+0000 - remove it"),
        (b"a: 1\n" * 300_000, ": larger than 200 KB - a spec is a few KB; is this the right file?"),
    ],
    ids=range(19),
)
def test_what_cannot_be_read_says_where_and_why(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    file = document(tmp_path, text)
    with pytest.raises(SpecError) as error:
        read_document(file)
    assert str(error.value).startswith(f"{file}{message}")
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_nearest_there_is(tmp_path: Path) -> None:
    near = document(tmp_path, "a: 1").rename(tmp_path / "workers-x-pool.yaml")
    with pytest.raises(SpecError) as error:
        read_document(tmp_path / "worker-x-pool.yaml")
    assert str(error.value).endswith(f"no such file - did you mean {near}?")
    with pytest.raises(SpecError, match="no such file - check the path"):
        read_document(tmp_path / "nowhere" / "a.yaml")


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a folder, not a file"):
        read_document(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="not a regular file"):
        read_document(tmp_path / "pipe")


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, _mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    file = document(tmp_path, "a: 1")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="cannot be read: Permission denied - check its perm"):
        read_document(file)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read_document(document(tmp_path, b"\xef\xbb\xbfa: 1\n")).value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-\n", ":1:1: not a mapping - write keys with values, as `experiment: name`"),
        ("%YAML 1.3\n---\na: 1\n", ": not YAML: version minor part can only be 2 or 1, got (1, 3)"),
        ("a: !x [1]\n", ":1:4: a tag (!x) is not read here - leave it out, and write the plain"),
        ("a: !x {b: 1}\n", ":1:4: a tag (!x) is not read here - "),
        ("!x a: 1\n", ":1:1: a tag (!x) is not read here - "),
        ("a: ! 1\n", ":1:4: a tag (!) is not read here - "),
        ("a: !!map {b: 1}\n", ":1:4: a tag (tag:yaml.org,2002:map) is not read here - "),
        ("a: !!binary aGk=\n", ":1:4: a tag (tag:yaml.org,2002:binary) is not read here - "),
        ("a: !!set {b, c}\n", ":1:4: a tag (tag:yaml.org,2002:set) is not read here - "),
        ("a: !!omap [b: 1]\n", ":1:4: a tag (tag:yaml.org,2002:omap) is not read here - "),
        ("&x a: 1\n", ":1:1: an anchor (&x) is not read here - leave it out"),
        ("a: &x 1\nb: {<<: *x}\n", ":1:4: an anchor (&x) is not read here - leave it out"),
        pytest.param(
            "a: [" + "x," * 10_000 + "x]\n",
            ":1:19999: more than 10000 keys and values - split the file",
            id="too many",
        ),
        ('a: "\\U00110000"\n', ": not YAML: chr() arg not in range(0x110000) - check the esc"),
        ("a\n: b\nc: 1", ":2:1: not YAML: expected '<document start>', but found '<block mapping"),
    ],
)
def test_so_does_what_the_reader_of_yaml_itself_trips_over(
    tmp_path: Path, text: str, message: str
) -> None:
    test_what_cannot_be_read_says_where_and_why(tmp_path, text, message)
