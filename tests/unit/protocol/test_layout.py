"""From a spec to files: compared with the files in golden/, byte for byte."""

from pathlib import Path

import pytest

from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Fence, Place, PlannedFile, Unrunnable, Whose, groups, layout
from shared.spec import JobSpec

GOLDEN = Path(__file__).parent / "golden"
WHOSE = Whose("acme", "job1", 2, "00-" + "a" * 32 + "-" + "b" * 16 + "-01")

SPECS = {
    "one-step": {"steps": [{"run": "echo hi"}]},
    "everything": {
        "name": "Bäu ild",
        "source": {"git": "https://example.org/x.git"},
        "env": {"JOB": "1", "BOTH": "job"},
        "steps": [
            {"name": "db", "background": True, "command": ["postgres", "-D", "data dir"], "ready": "pg_isready"},
            {"run": "make", "shell": "bash -eo pipefail", "working-directory": "sub", "timeout": "90s", "retry": 2,
             "env": {"BOTH": "step"}},
            {"name": "tidy", "run": "rm -rf x\n", "if": "always()", "continue-on-error": True},
        ],
    },
}  # fmt: skip


def text(files: list[PlannedFile]) -> str:
    """NULs shown as line ends with ␀, so that differences can be read."""
    parts = [f"=== {file.path} {file.mode:o}\n{file.data.decode().replace(chr(0), '␀' + chr(10))}" for file in files]
    return "".join(parts)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_becomes_these_files(name: str) -> None:
    place = Place(
        AttemptDir(Path("/a")),
        {"PATH": "/bin", "LANG": "C.UTF-8"},
        5000,
        1_000_000,
        {2: (Path("/sys/fs/cgroup/x/002"),)},
    )
    planned = text(layout(JobSpec.model_validate(SPECS[name]), WHOSE, place))
    assert planned == (GOLDEN / f"{name}.txt").read_text()


def test_the_first_step_may_begin_at_once_only_without_a_source() -> None:
    place = Place(AttemptDir(Path("/a")), {})
    paths = {n: {f.path for f in layout(JobSpec.model_validate(s), WHOSE, place)} for n, s in SPECS.items()}
    assert "go/001" in paths["one-step"]
    assert "go/001" not in paths["everything"]


def test_a_fenced_attempt_begins_to_end_a_grace_before_it_must_be_gone() -> None:
    fence = Fence(Path("/data/contact"), 123, 30.0)
    place = Place(AttemptDir(Path("/a")), {}, grace_ms=10_000, fence=fence)
    files = {file.path: file.data for file in layout(JobSpec.model_validate(SPECS["one-step"]), WHOSE, place)}
    assert files["fence"] == b"contact /data/contact\nsince_boot_ns 123\nend_ms 20000\nkill_ms 30000\n"
    assert b"grace_ms 10000\n" in files["steps/001/config"]


def test_no_grace_is_longer_than_half_the_fence() -> None:
    place = Place(AttemptDir(Path("/a")), {}, grace_ms=60_000, fence=Fence(Path("/c"), 1, 30.0))
    files = {file.path: file.data for file in layout(JobSpec.model_validate(SPECS["one-step"]), WHOSE, place)}
    assert b"grace_ms 15000\n" in files["steps/001/config"]
    assert b"end_ms 15000\n" in files["fence"]


def test_foreground_steps_share_a_process_and_background_ones_have_their_own() -> None:
    assert groups(JobSpec.model_validate(SPECS["everything"])) == [(2, 3), (1,)]


@pytest.mark.parametrize(
    "step",
    [
        {"shell": "sh 'unclosed"},
        {"shell": " "},
        {"working_directory": "a\nmode background"},
    ],
)
def test_what_no_entrypoint_could_run_is_refused(step: dict[str, str]) -> None:
    admitted = JobSpec.model_validate({"steps": [{"run": "x"}]})
    # As a hub of another version might have admitted it.
    spec = admitted.model_copy(update={"steps": [admitted.steps[0].model_copy(update=step)]})
    with pytest.raises(Unrunnable, match="Step 1"):
        layout(spec, WHOSE, Place(AttemptDir(Path("/a")), {}))
