"""A container runtime's program, called for one thing at a time; and what its containers are marked with."""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner.containers.model import Group
from runner.containers.runtime import RuntimeGone

LABEL = "overspill.dev"
OWNER, ATTEMPT, GROUP = f"{LABEL}/owner", f"{LABEL}/attempt", f"{LABEL}/group"
CALL_SECONDS = 120.0
PULL_SECONDS = 1800.0
ERRORS_LIMIT = "1mb"
NOWHERE = Path("/proc")
"""Where programs are called: what they would leave in their working directory can't be made there."""
WORDS_LIMIT = 200
_LOGGED = re.compile(r' level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Told:
    code: int
    out: str
    errors: str

    @property
    def why(self) -> str:
        """One line for a person."""
        logged = _LOGGED.findall(self.errors)
        if logged:
            return " ".join(logged[-1].replace("\\n", " ").replace('\\"', '"').split())
        lines = [line.removeprefix("Error: ") for line in self.errors.splitlines() if line.strip()]
        return " ".join(lines[-1].split()) if lines else f"it exited with {self.code}"


class Program:
    """`command`: how it is called, with the options that come before every command of it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    async def call(self, *words: str, seconds: float = CALL_SECONDS, directory: Path = NOWHERE) -> Told:
        """Raises RuntimeGone when it can't be run or takes longer than `seconds`."""
        # Files, not pipes: a container's monitor inherits them, and a pipe would end with the container.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=errors,
                    start_new_session=True, cwd=directory,
                )  # fmt: skip
            except OSError as error:
                raise RuntimeGone(why=str(error)) from error
            try:
                async with asyncio.timeout(seconds):
                    code = await process.wait()
            except TimeoutError as error:
                raise RuntimeGone(why=f"{self._command[0]} {words[0]} took longer than {seconds:g} s") from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
            return Told(code, _text(out), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def labels(group: Group) -> list[str]:
    marks = {OWNER: group.owner, ATTEMPT: group.attempt, GROUP: group.name, **group.labels}
    return [word for name, value in marks.items() for word in ("--label", f"{name}={value}")]


def last_words(file: Path, reading: Callable[[str], str]) -> str:
    """The end of a container's complaints; `reading`: what was said, of one of the file's lines."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return reading(lines[-1]).strip()[-WORDS_LIMIT:] if lines else ""
