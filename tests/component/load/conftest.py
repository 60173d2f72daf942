"""A small real service to upload to, and a way to offer it a load."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.load.driver import LoadResult, LoadStart, LocustLoad
from lab.model.evidence import Sample
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import Load
from lab.model.replica import UPLOAD_PATH
from lab.model.run import LoadTick

Answer = Callable[[int], Response]


def success(number: int) -> Response:
    return JSONResponse({"recording": f"recording-{number}"})


@dataclass
class Service:
    """Answers uploads as told: ``answer`` by the upload's number, ``delay`` in wall seconds."""

    url: str = ""
    delay: float = 0.0
    answer: Answer = success
    received: list[tuple[Request, bytes]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def upload(self, request: Request) -> Response:
        number = next(self.numbers)
        self.received.append((request, await request.body()))
        await asyncio.sleep(self.delay)
        return self.answer(number)


Handler = Callable[[Request], Awaitable[Response]]


@contextmanager
def serving(handlers: Mapping[str, tuple[Handler, str]]) -> Iterator[str]:
    """The address of a server with a handler, and its method, by path."""
    routes = [Route(path, handler, methods=[of]) for path, (handler, of) in handlers.items()]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="warning", lifespan="off", http="httptools"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with serving({UPLOAD_PATH: (made.upload, "POST")}) as url:
        made.url = url
        yield made


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


LOAD: TypeAdapter[Load] = TypeAdapter(Load)


def load_of(**keys: Any) -> Load:
    """A load from plain numbers: seconds for durations, a second for the rate, small audio."""
    stages = [
        {k: v if k == "users" else f"{v:.6f} s" for k, v in stage.items()}
        for stage in keys.pop("stages", [])
    ]
    plain = {"users", "burst", "audio"}
    text = {k: v if k in plain else f"{v:.6f} s" for k, v in keys.items() if k != "rate"}
    text |= {"rate": f"{keys['rate']}/s"} if "rate" in keys else {}
    text |= {"stages": stages} if stages else {}
    return LOAD.validate_python({"audio": "2 KB", **text})


def cell_of(load: Load, speed: float = 1.0, seed: int = 1) -> Cell:
    return Cell(
        id="c",
        axes={},
        knobs=Knobs(speed=speed),
        load=load,
        faults=(),
        criteria=(),
        seed=seed,
    )


@dataclass
class Outcome:
    result: LoadResult
    samples: list[Sample]
    ticks: list[LoadTick]
    starts: list[LoadStart]
    log: str


def read_samples(path: Path) -> list[Sample]:
    """Without the generator's beats between them."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    lines = [line for line in text.splitlines() if not line.startswith('{"beat"')]
    return [Sample.model_validate_json(line) for line in lines]


def offer(folder: Path, url: str, load: Load, speed: float = 1.0, seed: int = 1) -> Outcome:
    """Offer a load with the real generator and read back all it left."""
    ticks: list[LoadTick] = []
    starts: list[LoadStart] = []
    samples, log = folder / "samples.jsonl", folder / "logs" / "generator.log"
    cell = cell_of(load, speed, seed)
    result = LocustLoad().run(cell, url, samples, log, ticks.append, starts.append)
    return Outcome(result, read_samples(samples), ticks, starts, log.read_text())
