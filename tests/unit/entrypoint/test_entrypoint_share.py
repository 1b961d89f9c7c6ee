"""What steps made for themselves alone, and artifacts are to be made of: step-ctl, another user, may read it."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attempt_dir import AttemptDir

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_step_made_for_itself_alone_its_group_may_read_afterwards(attempt: AttemptDir) -> None:
    (attempt.root / "work").mkdir()
    script = "umask 077; mkdir -p out/deep/er other; for each in out/deep/er/x out/y other/z; do echo >$each; done"
    attempt.step(1, script, cwd=str(attempt.root / "work"), share="work/out/deep")
    assert attempt.run(1)[0] == 0
    made = attempt.root / "work"
    assert [mode(made / name) for name in ("out", "out/deep", "out/deep/er", "out/deep/er/x")] == [0o750] * 3 + [0o640]
    assert [mode(made / name) for name in ("out/y", "other", "other/z")] == [0o600, 0o700, 0o600]


def test_a_step_that_failed_shares_what_it_made_too(attempt: AttemptDir) -> None:
    attempt.step(1, "umask 077; echo x >core; exit 3", cwd=str(attempt.root), share="core")
    assert attempt.run(1)[0] == 0
    assert mode(attempt.root / "core") == 0o640


def test_what_is_not_there_or_is_no_file_holds_nobody_up(attempt: AttemptDir) -> None:
    (attempt.root / "work").mkdir()
    where = attempt.step(1, "mkfifo -m 600 fifo; ln -s . loop", cwd=str(attempt.root / "work"), share="work")
    with (where / "config").open("a") as config:
        config.write(f"share work/none/at/all\nshare work/fifo\nshare work/{'n' * 300}/x\nshare work/loop/fifo\n")
    assert attempt.run(1) == (0, "")
    assert mode(attempt.root / "work/fifo") == 0o600


def test_no_link_is_followed(attempt: AttemptDir) -> None:
    (attempt.root / "work").mkdir()
    outside = attempt.root.parent / "outside"
    outside.mkdir(mode=0o700)
    for name in ("secret", "other"):
        (outside / name).write_text(name)
        (outside / name).chmod(0o600)
    script = f"ln -s {outside}/secret link; ln -s {outside} directory"
    where = attempt.step(1, script, cwd=str(attempt.root / "work"), share="work")
    with (where / "config").open("a") as config:
        config.write("share work/directory/other\nshare work/link\n")
    assert attempt.run(1)[0] == 0
    assert (mode(outside), mode(outside / "secret"), mode(outside / "other")) == (0o700, 0o600, 0o600)


@contextmanager
def changing(path: Path, outside: Path) -> Iterator[None]:
    """Now a file, now a link to `outside`, as quick as one thread can."""
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for make in (lambda at: at.symlink_to(outside), lambda at: at.touch(0o600)):
                beside = path.with_suffix(".new")
                make(beside)
                beside.rename(path)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_name_that_becomes_a_link_meanwhile_leads_nowhere(attempt: AttemptDir) -> None:
    work = attempt.root / "work"
    work.mkdir()
    outside = attempt.root.parent / "secret"
    outside.touch(0o600)
    numbers = attempt.chain(*["true"] * 100, share="work")
    with changing(work / "x", outside):
        assert attempt.run(*numbers)[0] == 0
    assert mode(outside) == 0o600


@AS_ROOT
def test_another_user_s_file_is_left_alone_and_one_of_another_group_changes_its_group(attempt: AttemptDir) -> None:
    work = attempt.root / "work"
    work.mkdir()
    os.chown(attempt.root, -1, 65532)
    theirs = attempt.root.parent / "theirs"
    theirs.touch(0o600)
    os.chown(theirs, 1002, 1002)
    attempt.step(1, "umask 077; echo x >own; chgrp 0 own; ln ../../theirs .", cwd=str(work), share="work")
    assert attempt.run(1)[0] == 0
    assert (mode(work / "theirs"), theirs.stat().st_gid) == (0o600, 1002)
    assert (mode(work / "own"), (work / "own").stat().st_gid) == (0o640, 65532)
