"""Children under guards: what they leave in their logs, and that they end."""

import asyncio
import sys
from pathlib import Path

import pytest

from overspill.embedded import supervise
from overspill.embedded.sole import AlreadyRunning, sole_user
from overspill.embedded.supervise import ChildEnded, Children, Program
from runner.entrypoint import build

WAIT_SECONDS = 30


def python(code: str, directory: Path, **more) -> Program:
    return Program("child", (sys.executable, "-c", code), directory, **more)


async def test_what_a_child_tells_is_read_and_its_end_names_its_last_words(tmp_path: Path) -> None:
    async with Children.open(build.binary(), tmp_path / "logs") as children, asyncio.timeout(WAIT_SECONDS):
        code = "import sys; print('told', flush=True); sys.stderr.write('last words'); sys.exit(5)"
        child = await children.start(python(code, tmp_path, tells_on_stdout=True))
        assert await child.told_line() == b"told\n"
        assert await child.wait() == 5
        assert "exit 5" in str(child.failure())
        assert "last words" in str(child.failure())


async def test_leaving_ends_children_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys\n"
        "def end(*_):\n    open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\nwhile True: signal.pause()"
    )
    async with Children.open(build.binary(), tmp_path / "logs") as children, asyncio.timeout(WAIT_SECONDS):
        for name in "abc":
            command = (sys.executable, "-c", code, str(order), name)
            child = await children.start(Program(name, command, tmp_path, tells_on_stdout=True))
            assert await child.told_line() == b"ready\n"
    assert order.read_text() == "cba"


async def test_who_ignores_sigterm_is_killed_after_its_grace_or_at_once_on_demand(tmp_path: Path) -> None:
    code = "from signal import *\nsignal(SIGTERM, SIG_IGN)\nprint('ready', flush=True)\nwhile True: pause()"
    for grace, kills in ((0.1, False), (600.0, True)):
        async with Children.open(build.binary(), tmp_path / "logs") as children, asyncio.timeout(WAIT_SECONDS):
            child = await children.start(python(code, tmp_path, tells_on_stdout=True, grace_seconds=grace))
            assert await child.told_line() == b"ready\n"
            if kills:
                children.kill()
            await child.end()
            assert child.has_ended


async def test_a_child_that_keeps_dying_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_RESTARTS", 2)
    async with Children.open(build.binary(), tmp_path / "logs") as children, asyncio.timeout(WAIT_SECONDS):
        child = await children.start(python("raise SystemExit('no reason')", tmp_path))
        with pytest.raises(ChildEnded, match="no reason"):
            await children.keep_alive(child)
    log = (tmp_path / "logs" / "child.log").read_text()
    assert log.count("no reason") == 3
    assert log.count("started again") == 2


def test_a_log_past_its_bound_keeps_its_newest_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LOG_LIMIT_BYTES", 1000)
    log = tmp_path / "hub.log"
    log.write_text("old " * 500 + "newest")
    with log.open("ab") as writer:
        supervise._bound(log)
        writer.write(b"after")
    assert log.read_text() == "after"
    kept = (tmp_path / "hub.1.log").read_text()
    assert kept.endswith("newest")
    assert len(kept) == 500
    supervise._bound(tmp_path / "hub.1.log")
    assert (tmp_path / "hub.1.log").exists()


def test_one_up_a_data_directory(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(AlreadyRunning, match="process"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass
