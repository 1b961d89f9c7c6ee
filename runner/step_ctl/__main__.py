"""`python -m runner.step_ctl DIR`; `--spare`: everything imported, waiting for a line with DIR on stdin; `--pod DIR
--attempt FILE`: as a container of the attempt's pod.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from runner.step_ctl import lean

lean.leave_out()

from runner.step_ctl.wiring import serve, serve_pod  # noqa: E402
from shared.run import run_service  # noqa: E402
from shared.telemetry import exporting_is_set  # noqa: E402

USAGE_ERROR = 2


def _attempt_dir(arguments: argparse.Namespace) -> Path | None:
    if arguments.directory is not None:
        return Path(arguments.directory)
    if exporting_is_set(os.environ):
        import_module("shared.exporting")  # a third of a second: while nobody waits
    line = sys.stdin.readline().rstrip("\n")
    return Path(line) if line else None


async def _with_parent(directory: Path) -> None:
    """Ends with the process that holds our stdin."""
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(serve(directory))
    loop.add_reader(sys.stdin.fileno(), serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m runner.step_ctl", description="Tells the bus what one attempt does."
    )
    parser.add_argument("directory", nargs="?", help="the attempt directory")
    parser.add_argument("--spare", action="store_true", help="wait for the directory's name on stdin")
    parser.add_argument("--die-with-parent", action="store_true", help="end when stdin does")
    parser.add_argument("--pod", action="store_true", help="the directory is a volume of the attempt's pod")
    parser.add_argument("--attempt", metavar="FILE", help="in a pod: attempt.json of its secret")
    arguments = parser.parse_args(words)
    if arguments.spare == (arguments.directory is not None):
        parser.error("give a directory or --spare")
    if arguments.pod != (arguments.attempt is not None):
        parser.error("--pod and --attempt go together")
    directory = _attempt_dir(arguments)
    if directory is None:
        return 0  # whoever kept this spare is gone
    if not directory.is_dir():
        sys.stderr.write(f"{directory} is no directory\n")
        return USAGE_ERROR
    if arguments.pod:
        return run_service("step-ctl", lambda: serve_pod(directory, Path(arguments.attempt)))
    run = _with_parent if arguments.die_with_parent else serve
    return run_service("step-ctl", lambda: run(directory))


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
