"""Speech-like WAV files of an exact size, from a seed.

16 kHz, mono, 16-bit PCM; what is to be converted is at 44.1 kHz, as devices record. A single
waveform is synthesised: a harmonic source whose pitch drifts, in syllables of about a quarter of a
second, with breath noise. Every file is a cut of it with a header of its own, so that a thousand
files cost little more than copying them.
"""

from __future__ import annotations

import random
import struct

import numpy as np
import numpy.typing as npt

from lab.model.load import MIN_AUDIO
from lab.model.units import SizeRange

SAMPLE_RATE = 16_000
DEVICE_RATE = 44_100
HEADER = 44

VOICE_SECONDS = 30
MAX_FILES = 64
BUDGET = 64 * 1024**2
"""Bytes that a load's files may hold in memory, about, unless a single one is larger."""

GOLDEN = (5**0.5 - 1) / 2

Signal = npt.NDArray[np.float64]


def _contour(rng: np.random.Generator, time: Signal, per_second: float) -> Signal:
    """A curve through ``per_second`` random points a second, between -1 and 1."""
    knots = np.arange(0, VOICE_SECONDS + 1 / per_second, 1 / per_second)
    return np.interp(time, knots, rng.uniform(-1, 1, len(knots)))


def voice(seed: int) -> bytes:
    """Half a minute of the waveform as PCM, from which files are cut."""
    rng = np.random.default_rng(seed)
    time = np.arange(VOICE_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 140.0 * 2.0 ** (0.5 * _contour(rng, time, 3.0))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    # Two broad resonances, near 500 and 1500 Hz, stand for a vowel's formants. Each harmonic is
    # made of the two before it, sin kx = 2 cos x sin (k-1)x - sin (k-2)x, as a sine takes longer.
    twice, before, harmonic = 2 * np.cos(phase), np.zeros_like(phase), np.sin(phase)
    source = np.zeros_like(phase)
    for k in range(1, 13):
        source += harmonic * (1 / k + 0.5 * np.exp(-(((k * 140.0 - 1500.0) / 400.0) ** 2)))
        before, harmonic = harmonic, twice * harmonic - before
    syllables = np.clip(_contour(rng, time, 8.0) + 0.3, 0.0, None)
    signal = syllables * source + 0.02 * rng.standard_normal(len(time))
    peak = float(np.max(np.abs(signal)))
    pcm: bytes = np.round(signal / peak * 0.6 * 32767).astype("<i2").tobytes()
    return pcm


def wav(size: int, pcm: bytes, offset: int = 0, rate: int = SAMPLE_RATE) -> bytes:
    """A file of exactly ``size`` bytes: a cut of ``pcm`` from sample ``offset`` on, repeated.

    A RIFF chunk has an even length, so an odd size ends in one byte past it, which readers
    ignore.

    Raises:
        ValueError: ``size`` is below `MIN_AUDIO`.
    """
    if size < MIN_AUDIO:
        raise ValueError(f"a WAV file has at least {MIN_AUDIO} bytes, not {size}")
    length = (size - HEADER) // 2 * 2
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", HEADER - 8 + length, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16),
        *(b"data", length),
    )
    start = offset * 2 % len(pcm)
    repeats = pcm * ((start + length) // len(pcm) + 1)
    return header + repeats[start : start + length] + bytes(size - HEADER - length)


def sizes(audio: SizeRange, seed: int, count: int) -> list[int]:
    """``count`` sizes in bytes, log-uniform over the range.

    A size is drawn from each of ``count`` equal parts of the logarithmic range (stratified
    sampling), so that even the mean of a few is close to that of many. Users send the files in
    turn, so those that follow each other are spread over the range as well, as multiples of the
    golden ratio are over a circle (Knuth, The Art of Computer Programming, vol. 3, 6.4), from
    wherever the seed begins: else a window of a few uploads would have the sizes of a few.
    """
    rng = random.Random(f"{seed}/sizes")  # noqa: S311 - a workload, not a secret
    ratio, begin = audio.high / audio.low, rng.random()
    drawn = [round(audio.low * ratio ** ((k + rng.random()) / count)) for k in range(count)]
    places = [(begin + n * GOLDEN) % 1 for n in range(count)]
    rank = {place: k for k, place in enumerate(sorted(places))}
    return [drawn[rank[place]] for place in places]


def recordings(audio: SizeRange, seed: int, rate: int = SAMPLE_RATE) -> list[bytes]:
    """The files of a load: a bounded set, so that all of them are ready before it starts.

    As many as `BUDGET` holds of their mean size, for each is drawn from a part of its own of the
    range: of the report's, 64 files of 34 MB together.
    """
    count = max(1, min(MAX_FILES, int(BUDGET // audio.mean)))
    pcm = voice(seed)
    rng = random.Random(f"{seed}/offsets")  # noqa: S311 - a workload, not a secret
    drawn = sizes(audio, seed, count)
    return [wav(size, pcm, rng.randrange(len(pcm) // 2), rate) for size in drawn]
