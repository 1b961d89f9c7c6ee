"""Deleting what builds leave."""

from pathlib import Path

from runner.agent.disposal import discard, empty_all


def test_read_only_directories_of_builds_are_deleted(tmp_path: Path) -> None:
    attempt = tmp_path / "attempt"
    deep = attempt / "home" / "go" / "pkg"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (deep / "file").chmod(0o400)
    deep.chmod(0o500)
    discard(attempt)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_finished_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".trash-x" / "deep").mkdir(parents=True)
    (tmp_path / "attempt").mkdir()
    empty_all(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["attempt"]


def test_deleting_what_is_gone_is_no_error(tmp_path: Path) -> None:
    discard(tmp_path / "attempt")
