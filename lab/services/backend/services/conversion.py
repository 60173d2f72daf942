"""Conversion of a recording to what speech recognition takes: 16 kHz, mono, 16-bit PCM.

libsamplerate does it: 75 ms of a core for half a megabyte, in which other threads run (the
interpreter's lock is not held). As found a conversion runs in the audio threads;
``convert_call: blocking`` makes it in the event loop.

Its package is imported with the first conversion: numpy, which it brings, takes as long to start
and as much memory as a small service, and who converts nothing shall not have it.
"""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.problems import Problem
from lab.services.backend.core.thread_pool import MeteredPool, ThreadPools
from lab.services.backend.core.uploads import Timing
from lab.services.backend.settings import BackendSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Signal = npt.NDArray[np.float32]

RATE = 16_000
"""Samples a second of what a conversion answers with."""

MIN_RATE, MAX_RATE = 4_000, 192_000
"""Samples a second that a recording may have: one of 1 Hz would become 16,000 times as long."""

MAX_CHANNELS, MAX_BITS = 8, 32

QUALITY = "sinc_best"
"""libsamplerate's best converter: 145 dB of signal to noise, 96 % of the bandwidth."""


class AudioConverter:
    """Converts recordings, as many at once as there are audio threads, or one in the loop."""

    def __init__(self, settings: BackendSettings, pools: ThreadPools, gauges: Gauges) -> None:
        self._in_loop = settings.knobs.convert_call == "blocking"
        self._pool = MeteredPool(pools.audio, "audio", "convert", gauges)

    async def convert(self, content: bytes, timing: Timing) -> bytes:
        """A WAV file as one of 16 kHz, mono, 16 bits.

        Raises:
            Problem: ``bad_audio``, it is no WAV file, or of none that people record.
        """
        if self._in_loop:
            return self._pool.here(timing, to_16_khz, content)
        return await self._pool.run(timing, to_16_khz, content)


def to_16_khz(content: bytes) -> bytes:
    """A WAV file as one of 16 kHz, mono, 16 bits.

    Raises:
        Problem: ``bad_audio``.
    """
    import samplerate

    rate, signal = decode(content)
    return encode(samplerate.resample(signal, RATE / rate, QUALITY))


def decode(content: bytes) -> tuple[int, Signal]:
    """The rate of a WAV file, and its samples from -1 to 1, of all channels the mean.

    A sample that is cut off at the end, as of an upload that was, is left out.

    Raises:
        Problem: ``bad_audio``.
    """
    import numpy as np

    try:
        with wave.open(io.BytesIO(content)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # the last of a chunk past the file's end
        why = str(error) or "cut off"
        raise Problem("bad_audio", f"this is no WAV file of PCM ({why})") from error
    if not MIN_RATE <= rate <= MAX_RATE:
        raise Problem("bad_audio", f"{rate} Hz is not between {MIN_RATE} and {MAX_RATE} Hz")
    if channels > MAX_CHANNELS:
        raise Problem("bad_audio", f"{channels} channels are more than {MAX_CHANNELS}")
    if width * 8 > MAX_BITS:
        raise Problem("bad_audio", f"samples of {width * 8} bits are more than {MAX_BITS}")
    whole = len(data) // (channels * width) * channels * width
    if not whole:
        raise Problem("bad_audio", "the WAV file holds no samples")
    signal = samples(data[:whole], width).reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return rate, signal


def samples(data: bytes, width: int) -> Signal:
    """PCM of so many bytes a sample as numbers from -1 to 1: 8 bits unsigned, more signed."""
    import numpy as np

    if width == 1:
        return np.frombuffer(data, np.uint8).astype(np.float32) / np.float32(128) - np.float32(1)
    wide: Any = np.zeros((len(data) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    integers: npt.NDArray[np.int32] = wide.view("<i4").ravel()
    return integers.astype(np.float32) / np.float32(2**31)


def encode(signal: Signal) -> bytes:
    """Samples from -1 to 1 as a WAV file of 16 kHz, mono, 16 bits; what is beyond is clipped."""
    import numpy as np

    pcm = np.round(np.clip(signal, -1, 1) * 32767).astype("<i2")
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return written.getvalue()
