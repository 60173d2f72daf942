from __future__ import annotations

import io
import math
import wave

import numpy as np
import pytest
from scipy import stats

from lab.load import audio
from lab.model.units import SizeRange

PCM = audio.voice(1)


@pytest.mark.parametrize("size", [46, 47, 200_000, 200_001, 2_000_000, 1024**2 + 1])
def test_a_file_has_exactly_its_size_and_is_a_wav(size: int) -> None:
    made = audio.wav(size, PCM, offset=12_345)
    assert len(made) == size
    riff_size = int.from_bytes(made[4:8], "little")
    assert made[:4] == b"RIFF"
    assert riff_size == size - 8 - size % 2
    with wave.open(io.BytesIO(made)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getcomptype() == "NONE"
        assert file.getnframes() == (size - 44) // 2
        assert len(file.readframes(file.getnframes())) == 2 * file.getnframes()


@pytest.mark.parametrize("size", [0, 44, 45])
def test_a_size_without_room_for_a_sample_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 46 bytes, not {size}"):
        audio.wav(size, PCM)


def test_the_voice_has_syllables_and_a_pitch_that_drifts() -> None:
    signal = np.frombuffer(PCM, "<i2").astype(float)
    assert len(signal) == 30 * audio.SAMPLE_RATE
    assert 0.55 * 32767 < np.abs(signal).max() < 0.65 * 32767
    frames = signal.reshape(-1, 800)  # 50 ms
    loudness = np.sqrt((frames**2).mean(axis=1))
    assert np.percentile(loudness, 90) > 10 * np.percentile(loudness, 5)
    spectra = np.abs(np.fft.rfft(frames[loudness > np.median(loudness)], axis=1))
    strongest = spectra.argmax(axis=1) * audio.SAMPLE_RATE / 800
    assert len(set(strongest)) >= 5
    assert 80 <= np.median(strongest) <= 2000


def test_the_same_seed_makes_the_same_files_and_another_does_not() -> None:
    wanted = SizeRange(low=5_000, high=50_000)
    assert audio.recordings(wanted, 7) == audio.recordings(wanted, 7)
    assert audio.recordings(wanted, 7) != audio.recordings(wanted, 8)


def test_files_of_one_size_differ_in_what_they_hold() -> None:
    made = audio.recordings(SizeRange(low=2_000, high=2_000), 1)
    assert {len(file) for file in made} == {2_000}
    assert len(set(made)) == len(made) == audio.MAX_FILES


def test_sizes_are_log_uniform_over_the_range() -> None:
    drawn = audio.sizes(SizeRange(low=50_000, high=2_000_000), 3, 1000)
    assert min(drawn) >= 50_000
    assert max(drawn) <= 2_000_000
    assert stats.kstest(np.log(drawn), "uniform", (math.log(50_000), math.log(40))).pvalue > 0.05
    few = audio.sizes(SizeRange(low=50_000, high=2_000_000), 3, audio.MAX_FILES)
    assert np.mean(few) == pytest.approx(1_950_000 / math.log(40), rel=0.03)
    assert few != sorted(few)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("users", [1, 5, 10])
def test_a_few_users_who_send_a_few_files_each_send_all_sizes(seed: int, users: int) -> None:
    """Of a user's 20 files in turn, and of others who begin one after the other."""
    report = SizeRange(low=50_000, high=2_000_000)
    files = audio.sizes(report, seed, audio.MAX_FILES)
    sent = [files[(user + n) % len(files)] for user in range(users) for n in range(20)]
    above = sum(size > 1024**2 for size in sent) / len(sent)
    assert above == pytest.approx(report.share_above(1024**2), abs=0.08)


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [
        (200_000, 200_000, 64),
        (2_000_000, 2_000_000, 33),
        (50_000, 2_000_000, 64),
        (2_000_000, 8_000_000, 15),
        (100 * 1024**2, 100 * 1024**2, 1),
    ],
)
def test_what_is_held_in_memory_is_bounded(
    low: int, high: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def noted(size: int, _pcm: bytes, _offset: int, _rate: int) -> bytes:
        made.append(size)
        return b""

    monkeypatch.setattr(audio, "wav", noted)
    assert len(audio.recordings(SizeRange(low=low, high=high), 1)) == count
    assert sum(made) <= max(audio.BUDGET * 1.05, high)
