"""Which files an artifact is."""

import os
from pathlib import Path

import pytest

from runner.step_ctl.artifacts import find, pack
from runner.step_ctl.keeping import wanted
from runner.step_ctl.policy import Verdict
from shared.lifecycle import Reason
from shared.spec import Artifact

FILES = ("a.whl", "dist/b.whl", "dist/sub/c.txt", ".hidden/d", "x[1].log", "dist/e?.txt")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.whl", ["a.whl"]),
        ("**/*.whl", ["a.whl", "dist/b.whl"]),
        ("dist", ["dist/b.whl", "dist/e?.txt", "dist/sub/c.txt"]),
        ("dist/", ["dist/b.whl", "dist/e?.txt", "dist/sub/c.txt"]),
        ("./dist/*", ["dist/b.whl", "dist/e?.txt", "dist/sub/c.txt"]),
        ("dist/**", ["dist/b.whl", "dist/e?.txt", "dist/sub/c.txt"]),
        ("dist/?.whl", ["dist/b.whl"]),
        ("dist/[!a].whl", ["dist/b.whl"]),
        ("dist?b.whl", []),
        ("dist[/]b.whl", []),
        ("**", sorted(FILES)),
        ("nothing/here", []),
        ("a.whl/x", []),
    ],
)
def test_patterns_match_as_in_a_shell(workspace: Path, pattern: str, names: list[str]) -> None:
    assert [str(path) for path in find(workspace, [pattern]).paths] == names


def test_nothing_outside_gets_in(workspace: Path) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (workspace / "out").symlink_to(outside)
    (workspace / "file").symlink_to(outside / "secret")
    (workspace / "inner").symlink_to("a.whl")
    matches = find(workspace, ["out/*", "out", "file", "inner"])
    assert [str(path) for path in matches.paths] == ["inner"]
    assert len(matches.left_out) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_what_may_not_be_read_is_never_silently_missing(workspace: Path) -> None:
    closed = workspace / "dist/sub"
    closed.chmod(0o700)
    for path in (workspace, *workspace.parents):
        path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(65532)
    try:
        assert find(workspace, ["**/*.whl"]).left_out == ("dist/sub can't be looked into: Permission denied",)
        with pytest.raises(PermissionError):
            find(workspace, ["dist"])
    finally:
        os.seteuid(0)


def test_the_same_files_make_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    paths = find(workspace, ["**"]).paths
    first = pack(workspace, paths, tmp_path / "1.tar.gz", "n")
    (workspace / "a.whl").touch()
    second = pack(workspace, paths, tmp_path / "2.tar.gz", "n")
    assert first == second
    assert first.files == len(FILES)


@pytest.mark.parametrize(
    ("outcome", "names"),
    [
        ("succeeded", {"s", "a"}),
        ("failed", {"f", "a"}),
        ("timed_out", {"f", "a"}),
        ("cancelled", set()),
        ("error", set()),
    ],
)
def test_an_outcome_calls_for_its_artifacts(outcome: str, names: set[str]) -> None:
    artifacts = [
        Artifact(name="s", paths=["x"]),
        Artifact(name="f", paths=["x"], when="failure"),
        Artifact(name="a", paths=["x"], when="always"),
    ]
    verdict = Verdict(outcome, Reason.ALL_STEPS_OK)  # type: ignore[arg-type]
    assert {artifact.name for artifact in wanted(artifacts, verdict)} == names
