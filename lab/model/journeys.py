"""The journeys: what a student, or whoever watches the service, does with it.

    upload     authenticate, store a recording 2-5 s away, write it down    gcs_call says where
    assess     authenticate, speech recognition 1-3 s away, write a score   speech_threads
    convert    authenticate, decode and resample a WAV, answer with it      audio_threads
    progress   authenticate, read what the student has                      db_call says where
    health     what a load balancer, or the platform, asks                  the event loop

A metric or a criterion without a journey is of uploads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from lab.model.replica import HEALTH_PATH, UPLOAD_PATH


class Journey(StrEnum):
    """A kind of request, by its name in specs, samples and criteria."""

    UPLOAD = "upload"
    ASSESS = "assess"
    CONVERT = "convert"
    PROGRESS = "progress"
    HEALTH = "health"


@dataclass(frozen=True)
class Request:
    """How a journey is asked for.

    Args:
        method: of HTTP.
        path: at nginx, the gateway and the backend alike.
        audio: whether a WAV file goes with it, as an upload's does.
    """

    method: Literal["GET", "POST"]
    path: str
    audio: bool = False


REQUESTS: Mapping[Journey, Request] = {
    Journey.UPLOAD: Request("POST", UPLOAD_PATH, audio=True),
    Journey.ASSESS: Request("POST", "/api/students/assess-pronunciation", audio=True),
    Journey.CONVERT: Request("POST", "/api/students/convert-recording", audio=True),
    Journey.PROGRESS: Request("GET", "/api/students/progress"),
    Journey.HEALTH: Request("GET", HEALTH_PATH),
}
"""Every journey's request; a new one begins here."""

OF_PATH: Mapping[str, Journey] = {request.path: name for name, request in REQUESTS.items()}
