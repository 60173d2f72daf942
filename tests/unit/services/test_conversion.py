"""Conversion to 16 kHz, mono: every kind of PCM, and what is no WAV file, or none that helps."""

from __future__ import annotations

import io
import struct
import wave
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.load.audio import voice, wav
from lab.services.backend.core.problems import Problem
from lab.services.backend.services.conversion import MAX_CHANNELS, RATE, decode, to_16_khz

SECONDS = 0.5
TONE_HZ = 440.0


def tone(rate: int, channels: int = 1, width: int = 2) -> bytes:
    """Half a second of a tone at half of full scale, as PCM of this kind."""
    signal = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(rate * SECONDS)) / rate)
    whole = np.round(signal * (2 ** (8 * width - 1) - 1)).astype("<i8")
    if width == 1:
        whole += 128
    one = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
    return file(np.repeat(one, channels, axis=0).tobytes(), rate, channels, width)


def file(data: bytes, rate: int = RATE, channels: int = 1, width: int = 2) -> bytes:
    written = io.BytesIO()
    with wave.open(written, "wb") as to:
        to.setnchannels(channels)
        to.setsampwidth(width)
        to.setframerate(rate)
        to.writeframes(data)
    return written.getvalue()


def heard(converted: bytes) -> npt.NDArray[np.float64]:
    """The samples of a converted file, from -1 to 1; it is what a conversion promises."""
    with wave.open(io.BytesIO(converted)) as of:
        assert (of.getframerate(), of.getnchannels(), of.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(of.readframes(of.getnframes()), "<i2") / 32767


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_tone_stays_what_it_is(rate: int, channels: int, width: int) -> None:
    signal = heard(to_16_khz(tone(rate, channels, width)))
    assert len(signal) == pytest.approx(RATE * SECONDS, abs=2)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    assert np.argmax(spectrum) * RATE / len(signal) == pytest.approx(TONE_HZ, abs=2)
    middle = signal[len(signal) // 4 : -len(signal) // 4]
    assert np.max(np.abs(middle)) == pytest.approx(0.5, abs=0.02)


def test_channels_become_their_mean() -> None:
    left_alone = np.stack([np.full(1600, 16_000), np.zeros(1600)], axis=1).astype("<i2")
    _, signal = decode(file(left_alone.tobytes(), channels=2))
    assert signal == pytest.approx(8_000 / 2**15)


def test_what_is_beyond_full_scale_is_clipped() -> None:
    square = np.where(np.arange(4800) // 100 % 2, 32767, -32768).astype("<i2")
    assert np.max(np.abs(heard(to_16_khz(file(square.tobytes(), rate=48_000))))) <= 1


def test_the_loads_own_files_are_converted() -> None:
    """A cut of an odd size ends in a byte past its samples."""
    pcm = voice(seed=1)
    for size in (51_200, 51_201):
        assert len(heard(to_16_khz(wav(size, pcm)))) == pytest.approx((size - 44) // 2, abs=2)


WHOLE = tone(16_000)


def with_field(at: int, kind: str, value: int) -> bytes:
    """The same file with one field of its header changed."""
    changed = bytearray(WHOLE)
    struct.pack_into(kind, changed, at, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0" * 500, "no WAV file of PCM (file does not start with RIFF id)"),
        (b"RIFF", "no WAV file of PCM (cut off)"),
        (b"RIFF\x04\0\0\0WAVE", "no WAV file of PCM (fmt chunk and/or data chunk missing)"),
        (b"ID3\x04 this is MP3" * 9, "no WAV file of PCM (file does not start with RIFF id)"),
        (WHOLE[:30], "no WAV file of PCM"),
        (with_field(16, "<I", 2**31), "no WAV file of PCM (cut off)"),
        (with_field(8, "<I", 0), "no WAV file of PCM (not a WAVE file)"),
        (with_field(20, "<H", 3), "no WAV file of PCM (unknown format: 3)"),
        (with_field(22, "<H", 0), "no WAV file of PCM (bad # of channels)"),
        (with_field(22, "<H", 9), f"9 channels are more than {MAX_CHANNELS}"),
        (with_field(24, "<I", 1), "1 Hz is not between 4000 and 192000 Hz"),
        (with_field(24, "<I", 0), "0 Hz is not between 4000 and 192000 Hz"),
        (with_field(24, "<I", 2**31), "2147483648 Hz is not between 4000 and 192000 Hz"),
        (with_field(34, "<H", 0), "no WAV file of PCM (bad sample width)"),
        (with_field(34, "<H", 64), "samples of 64 bits are more than 32"),
        (WHOLE[:44], "the WAV file holds no samples"),
        (WHOLE[:45], "the WAV file holds no samples"),
        (file(b""), "the WAV file holds no samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_converted_is_bad_audio(content: bytes, says: str) -> None:
    with pytest.raises(Problem) as refused:
        to_16_khz(content)
    assert (refused.value.cause, refused.value.response.status_code) == ("bad_audio", 422)
    assert says in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 400),
)
def test_a_damaged_file_is_converted_or_refused(
    changes: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(WHOLE[:length])
    for at, value in changes:
        if at < length:
            content[at] = value
    with suppress(Problem):
        heard(to_16_khz(bytes(content)))
