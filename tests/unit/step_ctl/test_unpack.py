"""What becomes of an uploaded tree's modes: a workspace belongs to one user, or, in a pod, to a group."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from runner.step_ctl.source import unpack


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "tree.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, mode in (("file", 0o644), ("script", 0o755), ("sealed", 0o444)):
            member = tarfile.TarInfo(f"d/{name}")
            member.mode, member.size = mode, 1
            archive.addfile(member, io.BytesIO(b"x"))
    return path


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted((directory / "d").iterdir())}


def test_a_workspace_of_one_user_is_that_users(tmp_path: Path, packed: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    assert unpack(packed, work, 2**20) == 3
    assert modes(work) == {"file": 0o644, "script": 0o755, "sealed": 0o644}


def test_a_workspace_with_a_group_can_be_changed_by_all_of_it(tmp_path: Path, packed: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o2777)
    before = os.umask(0o002)
    try:
        assert unpack(packed, work, 2**20) == 3
    finally:
        os.umask(before)
    assert modes(work) == {"file": 0o664, "script": 0o775, "sealed": 0o664}
    assert stat.S_IMODE((work / "d").stat().st_mode) & 0o070 == 0o070
