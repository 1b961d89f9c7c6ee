"""Where artifacts are looked for."""

from pathlib import Path

from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Place, Whose, layout
from runner.protocol.sharing import MOST, shared_paths
from shared.spec import JobSpec


def spec(*paths: str) -> JobSpec:
    return JobSpec.model_validate({"steps": [{"run": "true"}], "artifacts": [{"name": "a", "paths": list(paths)}]})


def test_what_is_shared_is_what_patterns_name_before_their_first_wildcard() -> None:
    assert shared_paths(spec("dist/x/*.whl", "./out//log", "dist/x/y"), "work") == ["work/dist/x", "work/out/log"]
    assert shared_paths(spec("dist", "**/*.log"), "work") == ["work"]


def test_more_paths_than_an_entrypoint_takes_are_all_of_the_workspace() -> None:
    assert shared_paths(spec(*(f"d{number}/x" for number in range(MOST + 1))), "work") == ["work"]


def test_a_line_break_in_a_path_says_nothing_to_an_entrypoint() -> None:
    assert shared_paths(spec("dist/a\nretry 9/x"), "work") == ["work/dist"]


def config(made: JobSpec, *, users: bool) -> bytes:
    files = layout(made, Whose("t", "j", 1), Place(AttemptDir(Path("/a")), {}, users=users))
    return next(file.data for file in files if file.path == "steps/001/config")


def test_only_steps_of_other_users_than_step_ctl_s_share_and_only_for_artifacts() -> None:
    assert b"\nshare work/dist\n" in config(spec("dist"), users=True)
    assert b"share" not in config(spec("dist"), users=False)
    assert b"share" not in config(JobSpec.model_validate({"steps": [{"run": "true"}]}), users=True)
