"""A tree as an archive: what belongs to it, and that the same content is the same bytes."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from overspill import pack as packing
from overspill.pack import TreeRefused, listed, pack, tree_root


def git(tree: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tree, check=True, capture_output=True
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as tar:
        return {member.name: member for member in tar}


def test_an_unchanged_tree_packs_to_the_same_bytes_whenever_and_wherever(tree: Path, tmp_path: Path) -> None:
    for name in ("b", "a/deep", "ü"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(name)
    first = pack(tree, tmp_path / "1.tar.gz")
    os.utime(tree / "b", (5, 5))
    other = tmp_path / "elsewhere"
    tree.rename(other)
    second = pack(other, tmp_path / "another-name.tar.gz")
    assert first.sha256 == second.sha256
    assert first.size_bytes == second.path.stat().st_size
    assert first.files == 3


def test_one_changed_byte_changes_the_hash(tree: Path, tmp_path: Path) -> None:
    (tree / "file").write_text("a")
    before = pack(tree, tmp_path / "1").sha256
    (tree / "file").write_text("b")
    assert pack(tree, tmp_path / "2").sha256 != before


def test_exec_bits_links_and_empty_directories_are_kept_and_times_are_fit_for_zip(tree: Path, tmp_path: Path) -> None:
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o751)
    (tree / "plain").write_text("x")
    (tree / "link").symlink_to("plain")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "folder-link").symlink_to("empty")
    (tree / "empty").mkdir()
    pack(tree, tmp_path / "packed")
    found = members(tmp_path / "packed")
    assert (found["run.sh"].mode, found["plain"].mode) == (0o755, 0o644)
    assert found["link"].linkname == "plain"
    assert found["dangling"].issym()
    assert found["folder-link"].issym()
    assert found["empty"].isdir()
    assert all(member.mtime > 315_532_800 and member.uid == 0 and not member.uname for member in found.values())


def test_in_git_it_is_what_is_tracked_and_what_is_not_ignored(tree: Path) -> None:
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("ignored\nbuilt/\n")
    (tree / "built").mkdir()
    for name in ("tracked", "untracked", "ignored", "deleted", "built/thing", "new\nline"):
        (tree / name).write_text(name)
    git(tree, "add", "tracked", "deleted")
    (tree / "deleted").unlink()
    assert sorted(listed(tree)) == [".gitignore", "new\nline", "tracked", "untracked"]


def test_files_of_submodules_and_nested_repositories_belong_to_it(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "inside").write_text("x")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(tree, "init", "-q")
    git(tree, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub")
    git(tree, "clone", "-q", str(other), "nested")
    assert {"sub/inside", "nested/inside"} <= set(listed(tree))
    assert not any(name.startswith(("sub/.git/", "nested/.git")) for name in listed(tree))


def test_a_name_that_is_no_utf8_survives(tree: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (tree / name).write_text("x")
    git(tree, "init", "-q")
    pack(tree, tmp_path / "packed")
    assert list(members(tmp_path / "packed")) == [name]


@pytest.mark.parametrize(
    ("pattern", "ignored", "kept"),
    [
        ("*.o", {"a.o", "deep/b.o"}, {"a.c"}),
        ("/top", {"top"}, {"deep/top"}),
        ("target/", {"target/x", "deep/target/y"}, {"targets"}),
        ("deep/*.o", {"deep/b.o"}, {"a.o", "deep/deeper/c.o"}),
        ("**/deeper", {"deep/deeper/c.o"}, {"deep/b.o"}),
        ("deep/**/c.o", {"deep/deeper/c.o", "deep/c.o"}, {"c.o"}),
        ("*.o\n!b.o", {"a.o"}, {"deep/b.o"}),
        ("[!a].o", {"c.o"}, {"a.o"}),
        ("# comment\n\n", set(), {"a.o"}),
    ],
)
def test_outside_git_overspillignore_speaks_gitignore(
    tree: Path, pattern: str, ignored: set[str], kept: set[str]
) -> None:
    for name in ignored | kept:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    (tree / ".overspillignore").write_text(pattern)
    found = set(listed(tree))
    assert kept <= found
    assert not ignored & found


def test_a_tree_that_is_too_large_is_refused_and_the_largest_file_named(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LIMIT_BYTES", 10)
    (tree / "huge.bin").write_bytes(bytes(11))
    with pytest.raises(TreeRefused, match=r"limit.*huge\.bin"):
        pack(tree, tmp_path / "packed")


def test_the_tree_of_a_file_deep_in_git_is_the_whole_working_tree(tree: Path) -> None:
    git(tree, "init", "-q")
    (tree / "a" / "b").mkdir(parents=True)
    assert tree_root(tree / "a" / "b") == tree


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../elsewhere", "folder/../../elsewhere"])
def test_a_link_that_leaves_the_tree_is_refused_before_anything_is_sent(
    tree: Path, tmp_path: Path, target: str
) -> None:
    (tree / "link").symlink_to(target)
    with pytest.raises(TreeRefused, match=r"link is a link to .*, which leaves the tree: ignore it"):
        pack(tree, tmp_path / "out.tar.gz")


def test_a_link_upwards_inside_the_tree_is_kept(tree: Path, tmp_path: Path) -> None:
    (tree / "folder").mkdir()
    (tree / "folder" / "link").symlink_to("../target")
    pack(tree, tmp_path / "out.tar.gz")
    assert members(tmp_path / "out.tar.gz")["folder/link"].linkname == "../target"
