"""Where the service finds its database's password."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from lab.model.knobs import Knobs
from lab.services.backend.settings import BackendSettings

ADDRESSES = {
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "SPEECH_URL": "http://127.0.0.1:1",
    "AUDIO_BUCKET": "recordings",
}


def database_url(**variables: str) -> str:
    return BackendSettings.from_env({**Knobs().as_env(), **ADDRESSES, **variables}).database_url


def test_a_password_comes_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("it's /@: odd\n")
    url = "postgresql+psycopg2://app@127.0.0.1:1/students"
    found = make_url(database_url(DATABASE_URL=url, DATABASE_PASSWORD_FILE=str(file)))
    assert (found.username, found.password) == ("app", "it's /@: odd")
    assert found == make_url(url).set(password="it's /@: odd")


@pytest.mark.parametrize("named", [{}, {"DATABASE_PASSWORD_FILE": ""}])
def test_without_one_the_url_stays_as_it_is(named: dict[str, str]) -> None:
    url = "postgresql+psycopg2://app:secret@127.0.0.1:1/students"
    assert database_url(DATABASE_URL=url, **named) == url
