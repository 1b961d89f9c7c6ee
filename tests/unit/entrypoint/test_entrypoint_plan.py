"""`entrypoint run --plan`: files come from the plan, nobody stands beside the process, and it may be started again."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from attempt_dir import PATIENCE_SECONDS, Running, until_exists

from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Place, Whose, layout
from runner.protocol.plan import plans
from shared.spec_reading import admit_spec


class Pod:
    def __init__(self, root: Path, binary: Path, *steps: dict[str, object]) -> None:
        self.directory, self.plan, self.binary = root / "job", root / "plan", binary
        self.directory.mkdir()
        self.plan.mkdir()
        spec = admit_spec({"name": "j", "steps": list(steps)})
        files = layout(spec, Whose("t", "j", 1), Place(AttemptDir(self.directory), {}, grace_ms=500))
        for name, data in plans(files).items():
            (self.plan / name).write_bytes(data)

    def make_places(self) -> None:
        """As step-ctl does at its start: what a test waits in has to be there."""
        for name in ("work", *(f"steps/{path.name}" for path in self.plan.iterdir())):
            (self.directory / name).mkdir(parents=True)

    def start(self, *numbers: int, **environment: str) -> Running:
        words = [f"{number:03d}" for number in numbers]
        return Running(
            subprocess.Popen(
                [str(self.binary), "run", "--plan", str(self.plan), str(self.directory), *words],
                env={"PATH": os.environ["PATH"], **environment}, stderr=subprocess.PIPE,
            )
        )  # fmt: skip

    def run(self, *numbers: int, **environment: str) -> int:
        with self.start(*numbers, **environment) as running:
            return running.wait()

    def word(self, name: str) -> str:
        return (self.directory / name).read_text().strip()

    def field(self, step: int, key: str) -> str:
        lines = self.word(f"steps/{step:03d}/exit").splitlines()
        return dict(line.split(" ", 1) for line in lines)[key]


def test_each_container_brings_its_own_files_and_they_run_in_order(tmp_path: Path, entrypoint: Path) -> None:
    pod = Pod(tmp_path, entrypoint, {"run": "echo 1 >>all"}, {"run": "echo 2 >>all"}, {"run": "cat all"})
    pod.make_places()
    with pod.start(2) as second, pod.start(3) as third:
        until_exists(pod.directory / "steps/003/config")
        assert pod.run(1) == 0
        assert (second.wait(), third.wait()) == (0, 0)
    assert pod.word("steps/003/log") == "1\n2"
    assert pod.word("finish") == "ok"


def test_what_the_image_sets_is_kept_below_what_the_plan_sets(tmp_path: Path, entrypoint: Path) -> None:
    step = {"run": "echo $A $B $OVERSPILL_STEP ${KUBERNETES_SERVICE_HOST:-none}", "env": {"B": "plan"}}
    pod = Pod(tmp_path, entrypoint, step)
    image = {"A": "image", "B": "image", "OVERSPILL_STEP": "9", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert pod.run(1, **image) == 0
    assert pod.word("steps/001/log") == "image plan 1 none"


def test_an_entrypoint_killed_while_its_step_ran_says_so_when_it_is_back_and_runs_nothing_again(
    tmp_path: Path, entrypoint: Path
) -> None:
    pod = Pod(
        tmp_path, entrypoint, {"run": "echo run >>all; sleep 1000"}, {"run": "echo never >>all", "if": "always()"}
    )
    pod.make_places()
    with pod.start(2) as second:
        with pod.start(1) as first:
            until_exists(pod.directory / "work/all")
            first.signal(signal.SIGKILL)
            first.wait()
        assert pod.run(1) == 0
        assert second.wait() == 0
    assert "step 1 was started and nobody knows how it ended" in pod.word("lost/001")
    assert (pod.word("cancel"), pod.word("finish"), pod.word("work/all")) == ("lost", "cancelled", "run")
    assert (pod.field(2, "state"), pod.field(2, "verdict")) == ("skipped", "failed")
    assert not (pod.directory / "steps/001/exit").exists()


def test_an_entrypoint_killed_while_it_waited_goes_on_as_if_nothing_had_been(tmp_path: Path, entrypoint: Path) -> None:
    pod = Pod(tmp_path, entrypoint, {"run": "true"}, {"run": "echo second"})
    pod.make_places()
    with pod.start(2) as waiting:
        until_exists(pod.directory / "steps/002/config")
        waiting.signal(signal.SIGKILL)
        waiting.wait()
    assert pod.run(1) == 0
    assert pod.run(2) == 0
    assert (pod.word("steps/002/log"), pod.word("finish")) == ("second", "ok")


def test_after_a_restart_of_the_node_what_was_not_begun_is_lost_too(tmp_path: Path, entrypoint: Path) -> None:
    pod = Pod(tmp_path, entrypoint, {"run": "true"}, {"run": "true"})
    (pod.directory / "boot").write_text("11111111-2222-3333-4444-555555555555\n")
    assert pod.run(1) == 0
    assert pod.word("lost/001") == "the machine was restarted; step 1 was not begun"
    assert pod.word("cancel") == "lost"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_containers_of_different_users_share_the_directory(tmp_path: Path, entrypoint: Path) -> None:
    group = 65532
    pod = Pod(tmp_path, entrypoint, {"run": "echo 1 >all; mkdir d"}, {"run": "echo 2 >>all; touch d/x"})
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o005)
    os.chown(pod.directory, -1, group)
    pod.directory.chmod(0o2777)
    readable = tmp_path / "entrypoint"
    readable.write_bytes(entrypoint.read_bytes())
    readable.chmod(0o755)
    for number, user in ((1, 1001), (2, 1002)):
        done = subprocess.run(
            [str(readable), "run", "--plan", str(pod.plan), str(pod.directory), f"{number:03d}"],
            env={"PATH": os.environ["PATH"]}, user=user, group=user, extra_groups=[group],
            check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0
    assert (pod.word("work/all"), pod.word("finish")) == ("1\n2", "ok")


@pytest.mark.parametrize(
    "record", [b"644 3 ../out\nabc\n", b"644 3 /out\nabc\n", b"644 9 x\nabc\n", b"999 3 x\nabc\n", b"644 3 x"]
)
def test_a_plan_that_leads_outside_or_is_cut_is_refused(tmp_path: Path, entrypoint: Path, record: bytes) -> None:
    pod = Pod(tmp_path, entrypoint, {"run": "true"})
    (pod.plan / "001").write_bytes(record)
    assert pod.run(1) == 70
    assert not (tmp_path / "out").exists()


def test_a_waiting_entrypoint_keeps_nothing_of_its_plan_in_memory(tmp_path: Path, entrypoint: Path) -> None:
    pod = Pod(tmp_path, entrypoint, {"run": "true"}, {"run": "true #" + "x" * 100_000})
    pod.make_places()
    with pod.start(2) as waiting:
        until_exists(pod.directory / "steps/002/.exit.new")
        until_exists(pod.directory / ".finish.new")
        told = Path(f"/proc/{waiting.process.pid}/smaps_rollup").read_text()
        own = next(int(line.split()[1]) for line in told.splitlines() if line.startswith("Anonymous"))
        assert own < 100  # kB, the size of what was unpacked
        waiting.signal(signal.SIGTERM)
        assert waiting.wait() == 0
