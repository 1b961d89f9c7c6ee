"""The platform as a user has it: `overspill up` and the command line, as processes."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OVERSPILL = (sys.executable, "-m", "overspill")


def clean_environment(home: Path) -> dict[str, str]:
    """This process' environment with a home of its own, and no setting of Overspill's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OVERSPILL_", "XDG_", "COV_"))}
    root = str(Path(__file__).parents[2])
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": cache, "PYTHONPATH": root, "NO_COLOR": "1", "COLUMNS": "120"}


@dataclass
class Result:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Platform:
    """One data directory and the `up` that serves it."""

    home: Path
    data: Path
    flags: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    """Environment of `up` and so of its parts."""
    ready: dict[str, Any] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Returns when `up --json` says that it is ready, which is its first line."""
        command = [*OVERSPILL, "up", "--data", str(self.data), "--listen", "127.0.0.1:0", "--json", *self.flags]
        with (self.home / "up.err").open("ab") as err:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=clean_environment(self.home) | self.settings,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"up ended: {(self.home / 'up.err').read_text()}"
        self.ready = json.loads(line)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def environment(self) -> dict[str, str]:
        token = (self.data / "token").read_text().strip()
        return clean_environment(self.home) | {"OVERSPILL_URL": self.ready["url"], "OVERSPILL_TOKEN": token}

    def run(self, *arguments: str, cwd: Path | None = None, timeout: float = 120, stdin: str | None = None) -> Result:
        done = subprocess.run(
            [*OVERSPILL, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env=self.environment(),
            cwd=cwd or self.home,
            timeout=timeout,
            input=stdin,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def output(self, *arguments: str) -> bytes:
        """What it prints, byte for byte, when all goes well."""
        done = subprocess.run(
            [*OVERSPILL, *arguments],
            capture_output=True,
            env=self.environment(),
            cwd=self.home,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def popen(self, *arguments: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*OVERSPILL, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=cwd or self.home,
        )

    def spec(self, text: str, name: str = "build.yaml") -> Path:
        """A directory with this build.yaml."""
        directory = self.home / f"tree-{len(list(self.home.glob('tree-*')))}"
        directory.mkdir()
        (directory / name).write_text(text)
        return directory
