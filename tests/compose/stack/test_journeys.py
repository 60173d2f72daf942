"""What students ask for beside uploads, in containers: the speech service behind its own proxy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.faults.network import Toxiproxy
from lab.model.evidence import Cause
from lab.model.journeys import Journey
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell
from tests.live import timing, wait_until
from tests.replica.services.test_journeys import FAULTS, ask, scores

pytestmark = pytest.mark.compose

SETTINGS = {"speed": 10, "global_rate_limit": "off", "speech_latency": "5 s"}


def test_every_journey_is_answered_and_the_speech_service_is_as_far_as_it_is_told(
    contained: ComposeStack,
) -> None:
    cell = make_cell(SETTINGS)
    replica = contained.apply(cell)
    toxiproxy = Toxiproxy(replica.toxiproxy)
    with toxiproxy.injected([FAULTS["speech-latency"]], cell.knobs), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(replica.url, Journey.ASSESS, n), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(0.5 <= timing(answer)["speech"] < 0.7 for answer in answers)
    told = [answer.json() for answer in answers]
    assert scores(replica) == {one["assessment"]: one["score"] for one in told}
    assert ask(replica.url, Journey.CONVERT).headers["Content-Type"] == "audio/wav"
    assert ask(replica.url, Journey.PROGRESS).json()["recordings"] == 0
    with toxiproxy.injected([FAULTS["speech-down"]], cell.knobs):
        answer = ask(replica.url, Journey.ASSESS)
    assert (answer.status_code, answer.json()["cause"]) == (503, Cause.SPEECH_ERROR)
    assert scores(contained.apply(cell)) == {}


def test_a_speech_service_that_is_killed_is_down_and_comes_up_again(
    contained: ComposeStack,
) -> None:
    replica = contained.apply(make_cell(SETTINGS))
    contained.project.act("speech", "kill")
    wait_until(lambda: contained.down_parts().keys() == {"speech"})
    answer = ask(replica.url, Journey.ASSESS)  # refused at once, not when its time is over
    assert (answer.status_code, answer.json()["cause"]) == (503, Cause.SPEECH_ERROR)
    replica = contained.apply(make_cell(SETTINGS))
    assert contained.restarted == ["speech"]
    assert ask(replica.url, Journey.ASSESS).status_code == 200
