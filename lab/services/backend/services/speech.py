"""The call to the speech service, 1-3 s away, which says how well something was pronounced.

It is synchronous, as the service's SDK is, and runs in the speech threads, as found. Each call has
a connection of its own, so that none is cut by a server that closes idle ones.

    down: refuses, or breaks off       503
    nothing within its time-out        504    `lab.model.speech.SPEECH_TIMEOUT_S`
    an error, or no score in it        502
    it is no audio to it               422    ``bad_audio``; the others ``speech_error``
"""

from __future__ import annotations

from http import HTTPStatus
from math import isfinite

import requests

from lab.model.speech import SPEECH_PATH, SPEECH_TIMEOUT_S
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.problems import Problem
from lab.services.backend.core.thread_pool import MeteredPool, ThreadPools
from lab.services.backend.core.uploads import Timing
from lab.services.backend.settings import BackendSettings


class SpeechClient:
    """Asks the speech service for scores, as many at once as there are speech threads."""

    def __init__(self, settings: BackendSettings, pools: ThreadPools, gauges: Gauges) -> None:
        self._url = settings.speech_url + SPEECH_PATH
        self._timeout = settings.wall(SPEECH_TIMEOUT_S)
        self._pool = MeteredPool(pools.speech, "speech", "speech", gauges)

    async def score(self, content: bytes, content_type: str, timing: Timing) -> float:
        """How well a recording was pronounced, from 0 to 100.

        Raises:
            Problem: ``speech_error`` or ``bad_audio``; see the module.
        """
        return await self._pool.run(timing, self._assess, content, content_type)

    def _assess(self, content: bytes, content_type: str) -> float:
        try:
            answer = requests.post(
                self._url,
                data=content,
                headers={"Content-Type": content_type},
                timeout=self._timeout,
            )
        except requests.Timeout as error:
            what = f"the speech service did not answer within {SPEECH_TIMEOUT_S:g} s"
            raise Problem("speech_error", what, 504) from error
        except requests.RequestException as error:
            what = f"the speech service refused, or broke off ({type(error).__name__})"
            raise Problem("speech_error", what, 503) from error
        return score_in(answer)


def score_in(answer: requests.Response) -> float:
    """The score that the speech service answers.

    Raises:
        Problem: ``speech_error`` or ``bad_audio``.
    """
    if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNSUPPORTED_MEDIA_TYPE):
        raise Problem("bad_audio", "the speech service takes it for no audio; send a WAV file")
    if answer.status_code != HTTPStatus.OK:
        raise Problem("speech_error", f"the speech service answered {answer.status_code}")
    try:
        score = float(answer.json()["score"])
    except (KeyError, TypeError, ValueError) as error:
        raise Problem("speech_error", "the speech service answered without a score") from error
    if not isfinite(score):
        raise Problem("speech_error", f"the speech service answered with a score of {score}")
    return score
