"""The journeys: what a student, or whoever watches the service, does with it.

    upload     authenticate, store a recording 2-5 s away, write it down    gcs_call says where
    assess     authenticate, speech recognition 1-3 s away, write a score   speech_threads
    convert    authenticate, decode and resample a WAV, answer with it      audio_threads
    progress   authenticate, read what the student has                      db_call says where
    health     what a load balancer, or the platform, asks                  the event loop

A metric or a criterion without a journey is of uploads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from lab.model.replica import HEALTH_PATH, UPLOAD_PATH
from lab.model.suggest import suggest


class Journey(StrEnum):
    """A kind of request, by its name in specs, samples and criteria."""

    UPLOAD = "upload"
    ASSESS = "assess"
    CONVERT = "convert"
    PROGRESS = "progress"
    HEALTH = "health"


@dataclass(frozen=True)
class JourneyRequest:
    """How a journey is asked for.

    Args:
        method: of HTTP.
        path: at nginx, the gateway and the backend alike.
        noun: what one is called, in sentences; its plural has an s.
        audio: whether a WAV file goes with it, as an upload's does.
        names: the member of the JSON that answers it, which says what was stored; None where
            nothing is.
    """

    method: Literal["GET", "POST"]
    path: str
    noun: str
    audio: bool = False
    names: str | None = None


REQUESTS: Mapping[Journey, JourneyRequest] = {
    Journey.UPLOAD: JourneyRequest("POST", UPLOAD_PATH, "upload", audio=True, names="recording"),
    Journey.ASSESS: JourneyRequest(
        "POST",
        "/api/students/assess-pronunciation",
        "assessment",
        audio=True,
        names="assessment",
    ),
    Journey.CONVERT: JourneyRequest(
        "POST", "/api/students/convert-recording", "conversion", audio=True
    ),
    Journey.PROGRESS: JourneyRequest("GET", "/api/students/progress", "progress request"),
    Journey.HEALTH: JourneyRequest("GET", HEALTH_PATH, "health probe"),
}
"""Every journey's request; a new one begins here."""

OF_PATH: Mapping[str, Journey] = {request.path: name for name, request in REQUESTS.items()}

MAX_NAME = 40
"""Characters of a name that is none which are said again."""

OF_USERS = tuple(journey for journey in Journey if journey is not Journey.HEALTH)
"""What users do, of whom a load is a mix; health is asked for beside them."""


def journey_named(name: object, offered: Iterable[Journey] = Journey) -> Journey:
    """The journey of this name.

    Args:
        name: as it is written.
        offered: those that make sense here, of which the remedy names some.

    Raises:
        ValueError: there is none.
    """
    text = " ".join(str(name).split())[:MAX_NAME]
    try:
        return Journey(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a journey; {suggest(text, offered)}") from None
