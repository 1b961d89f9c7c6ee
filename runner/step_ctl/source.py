"""The workspace's source: an uploaded tree or a commit of git, fetched into an empty directory, whole or not at all."""

import asyncio
import contextlib
import errno
import shutil
import stat
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.protocol.attempt import Attempt
from runner.protocol.directory import RESERVED_BYTES, AttemptDir, read_fields, write_once, write_whole
from runner.step_ctl.aside import aside
from runner.step_ctl.courier import Courier
from runner.step_ctl.guarded import run_guarded
from runner.step_ctl.platform_log import PlatformLog
from runner.step_ctl.transfer import TransferRefused, download
from shared.crash_points import crash_point
from shared.errors import OverspillError, Rejected, Unavailable
from shared.lifecycle import Reason
from shared.requests import UrlsAsked
from shared.spec import GitSource, TreeSource
from shared.telemetry import span

PATIENCE_SECONDS = 120.0
"""How long an object store that can't be reached is asked again."""
MACHINES_DOING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
MAX_MEMBERS = 2_000_000


class SourceUnusable(OverspillError):
    """{why}"""

    # The source itself is at fault: the job failed.
    code = "source_unusable"


@dataclass(frozen=True, slots=True)
class Fetched:
    """`failed`: what the job names is wrong. `error`: the platform could not get it."""

    state: Literal["ok", "failed", "error"]
    why: str = ""
    reason: Reason = Reason.OBJECT_STORE_UNAVAILABLE
    """Of an error."""


async def provide(directory: AttemptDir, attempt: Attempt, courier: Courier, platform: PlatformLog) -> None:
    """Fetch the source unless that was done before, then let the first step begin, or be skipped."""
    spec = attempt.grant.spec
    if spec.source == "none":
        return
    known = read_fields(directory.source)
    if known is None:
        with span("fetch source"):
            fetched = await _fetch(directory, attempt, courier, platform)
        if fetched.state != "ok":
            platform.line(f"The source could not be fetched: {fetched.why}")
        why = " ".join(fetched.why.split())
        noted = (
            f"state {fetched.state}\nreason {fetched.reason.value}\nwhy {why[:500]}\nready_unix_ns {time.time_ns()}\n"
        )
        write_whole(directory.source, noted.encode()[:RESERVED_BYTES])
        known = {"state": fetched.state}
    crash_point("step-ctl.after-source-before-go")
    write_once(directory.go(1), b"ok\n" if known.get("state") == "ok" else b"failed\n")


async def _fetch(directory: AttemptDir, attempt: Attempt, courier: Courier, platform: PlatformLog) -> Fetched:
    source = attempt.grant.spec.source
    await asyncio.to_thread(_empty, directory.work)
    try:
        if isinstance(source, TreeSource):
            await _fetch_tree(source, directory, attempt, courier, platform)
        elif isinstance(source, GitSource):
            await _fetch_git(source, directory, attempt, platform)
    except (SourceUnusable, Rejected) as error:
        return Fetched("failed", str(error))
    except OverspillError as error:
        return Fetched("error", str(error))
    except OSError as error:
        # The machine's doing, most likely a full disk. What came of the source is in the way of all the rest.
        await asyncio.to_thread(_empty, directory.work)
        return Fetched("error", f"the machine could not keep it: {error}", Reason.SETUP_FAILED)
    return Fetched("ok")


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


async def _fetch_tree(
    source: TreeSource, directory: AttemptDir, attempt: Attempt, courier: Courier, platform: PlatformLog
) -> None:
    packed = directory.step(0, "source.tar.gz")
    began = time.monotonic()
    size, digest = await _download(packed, courier, platform)
    if digest != source.tree:
        raise Unavailable(what="the uploaded tree", why=f"its bytes are not {source.tree[:12]}…")
    limit = attempt.grant.spec.needs.disk_bytes
    try:
        files = await asyncio.to_thread(unpack, packed, directory.work, limit)
    finally:
        packed.unlink(missing_ok=True)
    platform.line(f"Source: {files} files, {size} bytes packed, in {time.monotonic() - began:.2f} s")


async def _download(target: Path, courier: Courier, platform: PlatformLog) -> tuple[int, str]:
    patience = courier.patience()
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            told = await courier.ask_urls(UrlsAsked(source=True))
            if told.source is None:
                raise SourceUnusable(why="the uploaded tree is not there any more; upload it again")
            return await aside(download, told.source, target)
        except TransferRefused as error:
            raise SourceUnusable(why=str(error)) from error
        except Unavailable as error:
            if time.monotonic() >= until:
                raise
            platform.line(f"Trying again: {error}")
            await patience.pause()


def unpack(packed: Path, target: Path, limit_bytes: int) -> int:
    """Extract a .tar.gz into `target`; nothing of it can land elsewhere. Returns the number of files. Blocking.

    Raises SourceUnusable for what is no archive, holds a member that leads outside, or more than `limit_bytes`;
    OSError when the disk is full or broken.
    """
    files = size = 0
    keep = _for_the_group if target.stat().st_mode & stat.S_ISGID else tarfile.data_filter
    try:
        with tarfile.open(packed, "r:gz") as archive:
            for member in archive:
                size += member.size
                files += 1
                if size > limit_bytes or files > MAX_MEMBERS:
                    raise SourceUnusable(
                        why=f"the source is larger than the machine type's disk of {limit_bytes} bytes"
                    )
                archive.extract(member, target, filter=keep, set_attrs=True)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in MACHINES_DOING:
            raise
        raise SourceUnusable(why=f"the source can't be unpacked: {error}") from error
    return files


def _for_the_group(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """In a pod's volume, whose group step-ctl and the steps' users have in common, what its owner may change so may
    they.
    """
    kept = tarfile.data_filter(member, path)
    if kept is None or kept.mode is None:
        return kept
    return kept.replace(mode=kept.mode | (kept.mode & stat.S_IWUSR) >> 3, deep=False)


async def _fetch_git(source: GitSource, directory: AttemptDir, attempt: Attempt, platform: PlatformLog) -> None:
    if shutil.which("git", path=attempt.helper_env.get("PATH")) is None:
        raise Unavailable(what="git", why="it is not installed on this machine; install it or submit a tree")
    environment = {
        **attempt.helper_env,
        "HOME": str(directory.home),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new",
        "LC_ALL": "C.UTF-8",
    }

    async def git(*words: str) -> None:
        # In a pod the workspace may be of another user: whichever container was first made it.
        settings = ("safe.directory=*", "advice.detachedHead=false", "init.defaultBranch=main")
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *words]
        code, last = await run_guarded(command, directory.work, environment, attempt.entrypoint, platform.write)
        if code != 0:
            raise SourceUnusable(why=f"git {words[0]}: {last or f'exit {code}'}")

    depth = [f"--depth={source.depth}"] if source.depth else []
    await git("init", "--quiet")
    await git("remote", "add", "origin", source.git)
    try:
        await git("fetch", "--no-tags", *depth, "origin", source.ref)
    except SourceUnusable:
        # Some servers give a commit by its id only to who has all branches.
        if not _is_commit(source.ref):
            raise
        await git("fetch", "--tags", "origin")
        await git("checkout", "--quiet", "--force", source.ref)
    else:
        await git("checkout", "--quiet", "--force", "FETCH_HEAD")
    if source.submodules:
        await git("submodule", "update", "--init", "--recursive", *depth)
    with contextlib.suppress(SourceUnusable):  # for the reader of the log only
        await git("log", "-1", "--format=Source: commit %H%n  %an: %s")


def _is_commit(ref: str) -> bool:
    return len(ref) in (40, 64) and all(letter in "0123456789abcdef" for letter in ref)
