"""What the front's log says of its instances, read while it is written."""

from __future__ import annotations

import json
from pathlib import Path

from lab.model.readings import Usage
from lab.stack.gateway import Instances


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    file = tmp_path / "front.jsonl"
    instances = Instances(file)
    assert (instances.ready(), instances.inflight(), instances.failed()) == (0, 0, "")

    def write(**event: object) -> None:
        with file.open("a") as log:
            log.write(json.dumps(event) + "\n")

    write(event="starting", instance="instance-1")
    assert instances.ready() == 0
    write(event="ready", instance="instance-1", start_s=1.0)
    write(event="request_start", instance="instance-1", waited=0.0, cold=0.0)
    write(event="usage", instance="instance-1", cpu_s=1.0, throttled_s=0.5, peak_bytes=100.0)
    assert (instances.ready(), instances.inflight()) == (1, 1)
    assert instances.usage() == Usage(cpu_s=1.0, throttled_s=0.5, memory=100)

    write(event="oom", instance="instance-1", cpu_s=2.0, throttled_s=0.5, peak_bytes=200.0)
    write(event="request_end", instance="instance-1", how="broken", took=1.0)
    write(event="starting", instance="instance-2")
    write(event="usage", instance="instance-2", cpu_s=0.25, throttled_s=0.0, peak_bytes=50.0)
    assert (instances.ready(), instances.inflight()) == (0, 0)
    assert instances.usage() == Usage(cpu_s=2.25, throttled_s=0.5, memory=50)

    with file.open("a") as log:
        log.write('{"event":"start_failed","instance":"instance-2"')
        log.flush()
        assert instances.failed() == ""
        log.write(',"why":"exit code 3"}\n')
    assert instances.failed() == "exit code 3"
