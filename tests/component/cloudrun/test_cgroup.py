"""Both versions of cgroups on folders of plain files, and where neither may be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.services.cloudrun import cgroup
from lab.services.cloudrun.cgroup import CgroupV1, CgroupV2, Folders, NotPermittedError
from lab.services.cloudrun.instance import DriverError


def files(folder: Path, **content: str) -> Path:
    """A folder with files; ``__`` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize("swap", [True, False])
def test_version_2(tmp_path: Path, swap: bool) -> None:
    folder = files(
        tmp_path,
        memory__events="low 0\noom 3\noom_kill 2\n",
        memory__peak="1048576\n",
        cpu__stat="usage_usec 2500000\nthrottled_usec 500000\n",
        **({"memory__swap__max": "max"} if swap else {}),
    )
    group = CgroupV2(folder)
    group.limit_memory(256 * 1024**2)
    group.limit_cpus(0.5)
    group.freeze(True)
    read = {file.name: file.read_text() for file in folder.iterdir()}
    assert read["memory.max"] == "268435456"
    assert read.get("memory.swap.max") == ("0" if swap else None)
    assert read["cpu.max"] == "50000 100000"
    assert read["cgroup.freeze"] == "1"
    assert group.oom_kills() == 2
    assert group.usage() == {"cpu_s": 2.5, "throttled_s": 0.5, "peak_bytes": 1048576.0}
    (folder / "memory.peak").unlink()
    assert group.usage() == {"cpu_s": 2.5, "throttled_s": 0.5}


@pytest.mark.parametrize("swap", [True, False])
def test_version_1(tmp_path: Path, swap: bool) -> None:
    folders = Folders(
        cpu=files(tmp_path / "cpu", cpu__stat="nr_periods 9\nthrottled_time 500000000\n"),
        cpuacct=files(tmp_path / "cpuacct", cpuacct__usage="2500000000\n"),
        memory=files(
            tmp_path / "memory",
            memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            memory__max_usage_in_bytes="1048576\n",
            **({"memory__memsw__limit_in_bytes": "-1"} if swap else {}),
        ),
        freezer=files(tmp_path / "freezer"),
    )
    group = CgroupV1(folders)
    group.limit_memory(256 * 1024**2)
    group.limit_cpus(0.5)
    group.freeze(True)
    assert (folders.memory / "memory.limit_in_bytes").read_text() == "268435456"
    other = "memory.memsw.limit_in_bytes" if swap else "memory.swappiness"
    assert (folders.memory / other).read_text() == ("268435456" if swap else "0")
    assert (folders.cpu / "cpu.cfs_quota_us").read_text() == "50000"
    assert (folders.freezer / "freezer.state").read_text() == "FROZEN"
    group.freeze(False)
    assert (folders.freezer / "freezer.state").read_text() == "THAWED"
    assert group.oom_kills() == 2
    assert group.usage() == {"cpu_s": 2.5, "throttled_s": 0.5, "peak_bytes": 1048576.0}


def test_a_limit_that_cannot_be_written_is_told() -> None:
    with pytest.raises(DriverError, match=r"cpu\.max cannot be set to 50000 100000: No such file"):
        CgroupV2(Path("/no/such")).limit_cpus(0.5)


@pytest.mark.parametrize(
    ("delegated", "chosen"),
    [
        ({"a": "cpu memory", "a/b": "cpu memory pids"}, "a/b"),
        ({"a": "cpu memory", "a/b": ""}, "a"),
        ({"": "cpuset cpu memory", "a": "memory", "a/b": "cpu"}, ""),
    ],
)
def test_version_2_is_used_where_the_nearest_ancestor_delegates_both(
    tmp_path: Path, delegated: dict[str, str], chosen: str
) -> None:
    for name in ("", "a", "a/b"):
        files(tmp_path / name, cgroup__subtree_control=delegated.get(name, "") + "\n")
    assert cgroup.nearest(tmp_path / "a" / "b", tmp_path) == tmp_path / chosen


def test_where_none_does_the_refusal_names_the_remedy(tmp_path: Path) -> None:
    files(tmp_path, cgroup__subtree_control="")
    files(tmp_path / "a", cgroup__subtree_control="cpu")
    with pytest.raises(NotPermittedError) as caught:
        cgroup.nearest(tmp_path / "a", tmp_path)
    assert str(caught.value) == (
        f"an instance cannot be limited here: no cgroup from {tmp_path}/a up delegates "
        "cpu and memory to this process - run as root, or in a systemd user session to which cpu "
        "and memory are delegated, or use --stack compose"
    )


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ("tmpfs /sys/fs/cgroup tmpfs ro 0 0\n", "no cgroup file system is mounted"),
        (
            "".join(
                f"cgroup {{root}}/{kind} cgroup ro,{kind} 0 0\n"
                for kind in ("cpu", "cpuacct", "memory", "freezer")
            ),
            "cpu/lab: ",
        ),
    ],
)
def test_cgroups_that_are_not_there_or_not_writable_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, message: str
) -> None:
    (tmp_path / "mounts").write_text(mounts.format(root=tmp_path / "gone"))
    (tmp_path / "cgroup").write_text("3:cpu,cpuacct:/\n2:memory:/\n1:freezer:/\n0::/\n")
    monkeypatch.setattr(cgroup, "PROC", tmp_path)
    with pytest.raises(NotPermittedError, match=message):
        cgroup.make("lab", 128 * 1024**2, 0.5)


def test_a_container_that_sees_only_its_own_part_uses_the_mount(tmp_path: Path) -> None:
    assert cgroup._below(tmp_path, "/docker/abc") == tmp_path
    (tmp_path / "docker" / "abc").mkdir(parents=True)
    assert cgroup._below(tmp_path, "/docker/abc") == tmp_path / "docker" / "abc"
