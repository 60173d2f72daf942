"""Which media types of a part are audio, by their grammar (RFC 9110, 5.6 and 8.3)."""

from __future__ import annotations

import pytest

from lab.services.backend.api.deps import LONGEST_TYPE, is_audio

AUDIO = [
    "audio/wav",
    "Audio/WAV",
    "audio/x-wav",
    "audio/vnd.wave;codec=1",
    "audio/wav; rate=16000",
    "audio/wav ; rate=16000;channels=1 ",
    'audio/wav; name="a; \\"b\\" c"',
    "audio/wav;",
    "audio/" + "w" * (LONGEST_TYPE - 6),
]
OTHERS = [
    "",
    "audio",
    "audio/",
    "/wav",
    "audio/wav/x",
    "audio /wav",
    " audio/wav",
    "audio/wa v",
    "audio/wav\0",
    "audio/wav\n",
    "audio/wav\r\nX-Evil: 1",
    "audio/wav; rate",
    "audio/wav; rate=",
    "audio/wav; rate = 1",
    'audio/wav; name="a',
    'audio/wav; name="a\n"',
    "audio/w\xe4v",
    'audio/wav; name="\xe4"',
    "audio/*, audio/wav",
    "audio/wav; rate=1 2",
    "text/plain",
    "xaudio/wav",
    "audio/" + "w" * (LONGEST_TYPE - 5),
]


@pytest.mark.parametrize("kind", AUDIO)
def test_what_is_audio(kind: str) -> None:
    assert is_audio(kind)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_not(kind: str) -> None:
    assert not is_audio(kind)


@pytest.mark.timeout(20)  # what backtracks takes years
@pytest.mark.parametrize("tail", [";   " * 60 + "\0", ";a=b" * 60 + "\0", ';a="' + "\\a" * 100])
def test_no_media_type_takes_long_to_look_at(tail: str) -> None:
    assert not is_audio("audio/a" + tail)
