"""Helper commands of step-ctl that can't outlive it: run under `entrypoint guard`, on a lifeline that breaks with
this process.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GRACE_MS = 2000
LAST_LINE_BYTES = 400


async def run_guarded(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    entrypoint: Path,
    write: Callable[[bytes], None],
) -> tuple[int, str]:
    """Exit code and last line of output. Cancelling it ends the command and everything it started."""
    lifeline, held = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(entrypoint), "guard", "--lifeline", str(lifeline), "--grace", str(GRACE_MS), "--", *command),
            cwd=directory,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(lifeline,),
            start_new_session=True,
        )
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(lifeline)
    output = process.stdout
    assert output is not None
    tail = b""
    try:
        while data := await output.read(65_536):
            write(data)
            tail = (tail + data)[-LAST_LINE_BYTES:]
        code = await process.wait()
    finally:
        with contextlib.suppress(OSError):
            os.close(held)  # cuts the lifeline: harmless when the command is over
    lines = [line.strip() for line in tail.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return code, lines[-1] if lines else ""
