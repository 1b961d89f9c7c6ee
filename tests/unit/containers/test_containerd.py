"""What nerdctl is told of a container and its group, and what is made of its answers."""

from pathlib import Path

import pytest

from runner.containers.calling import Told, last_words
from runner.containers.containerd import Sandbox, run_words, sandbox_words
from runner.containers.limits import GroupLimits
from runner.containers.model import Limits
from runner.containers.runtime import NotStarted, RuntimeGone
from tests.unit.containers.test_shape import made

SANDBOX = Sandbox(Path("/data/sandbox"), Path("/bin/entrypoint"))


def test_a_step_is_walled_in_and_its_command_line_holds_no_secret() -> None:
    words = " ".join(run_words(made().steps[1, 3]))
    for wall in (
        "--cap-drop ALL", "--security-opt no-new-privileges", "--pids-limit 512", "--memory 67108864",
        "--memory-swap 67108864", "--cpus 1.5", "--network container:overspill-me-j-2-sandbox", "--pull never",
        "--ipc container:overspill-me-j-2-sandbox", "--cgroup-parent /overspill/overspill-me-j-2",
    ):  # fmt: skip
        assert wall in words
    for hole in ("--privileged", "--volume", "--env", "--device", "unconfined", "hush-hush", "/data/j-2/own"):
        assert hole not in words
    assert words.count("type=bind") == 3
    assert words.count(",readonly") == 2
    assert "overspill.dev/job=j" in words
    assert "overspill.dev/epoch=2" in words


def test_step_ctl_is_not_within_the_jobs_limit_and_writes_to_nothing_but_the_attempt() -> None:
    words = " ".join(run_words(made().step_ctl))
    assert "--network host --read-only " in words
    assert "--cgroup-parent /overspill/step-ctl " in words
    assert "--memory" not in words
    assert words.endswith(" overspill/step-ctl:1 --pod /overspill/job --attempt /overspill/own/attempt.json")


def test_a_sandbox_is_on_the_jobs_network_within_its_limit_and_has_nothing_of_the_attempt() -> None:
    words = " ".join(sandbox_words(made().group, SANDBOX))
    for wall in ("--network bridge", "--cap-drop ALL", "--pids-limit 16", "--read-only", "no-new-privileges"):
        assert wall in words
    assert words.count("type=bind") == 1
    assert "--cgroup-parent /overspill/overspill-me-j-2 " in words
    assert words.endswith("--rootfs /data/sandbox /entrypoint hold")


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ("Error: no such\nError: image not known\n", "image not known"),
        (
            'time="now" level=warning msg="so"\ntime="now" level=fatal msg="no \\"x\\":\\nnowhere"',
            'no "x": nowhere',
        ),
        ('time="now" level=fatal msg="first"\ntime="now" level=info msg="a hint"\n', "first"),
        ("", "it exited with 7"),
    ],
)
def test_what_a_runtime_complained_of_is_one_line(errors: str, why: str) -> None:
    assert Told(7, "", errors).why == why


def test_last_words_are_the_end_of_the_last_line_and_none_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "said").write_text("first\nTHE LAST\n")
    assert last_words(tmp_path / "said", str.lower) == "the last"
    assert last_words(tmp_path / "nothing", str.lower) == ""


def unified(mount: Path) -> Path:
    (mount / "overspill/g").mkdir(parents=True)
    (mount / "cgroup.controllers").touch()
    return mount / "overspill/g"


def test_limits_of_a_group_are_set_where_there_is_one_hierarchy(tmp_path: Path) -> None:
    group = unified(tmp_path)
    GroupLimits(tmp_path).set("g", Limits(cpu_millis=1500, memory_bytes=64, pids=1))
    told = {name: (group / name).read_text() for name in ("memory.max", "memory.swap.max", "cpu.max")}
    assert told == {"memory.max": "64", "memory.swap.max": "0", "cpu.max": "150000 100000"}


def test_a_group_whose_limits_cant_be_set_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(NotStarted):
        GroupLimits(tmp_path).set("g", Limits(1, 1, 1))


@pytest.mark.parametrize(("kills", "told"), [("oom 3\noom_kill 0\n", False), ("oom 0\noom_kill 12\n", True)])
def test_a_kill_for_memory_is_told_where_there_is_one_hierarchy(tmp_path: Path, kills: str, *, told: bool) -> None:
    (unified(tmp_path) / "c").mkdir()
    (tmp_path / "overspill/g/c/memory.events").write_text(kills)
    assert GroupLimits(tmp_path).killed_for_memory("g", "c") is told
    assert GroupLimits(tmp_path).killed_for_memory("g", "another") is False


def test_a_group_is_removed_once_it_is_empty_and_once_more_is_no_error(tmp_path: Path) -> None:
    group = unified(tmp_path)
    (group / "c").mkdir()
    with pytest.raises(RuntimeGone):
        GroupLimits(tmp_path).remove("g")
    (group / "c").rmdir()
    GroupLimits(tmp_path).remove("g")
    GroupLimits(tmp_path).remove("g")
    assert not group.exists()
