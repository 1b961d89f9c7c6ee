"""That a process goes on: its loops touch a file, and `python -m shared.pulse` judges the file's age.

The probe of who opens no port. It imports nothing: it is run every few seconds.
"""

import os
import sys
import time
from pathlib import Path

VARIABLE = "OVERSPILL_PULSE_FILE"
STALE_SECONDS = 90.0
"""More than any loop waits for an answer of the bus or of the API server: an outage of either is no reason to die."""


class Pulse:
    """Of one process; without a file nobody watches it."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    @classmethod
    def of_environment(cls) -> "Pulse":
        """`OVERSPILL_PULSE_FILE` names the file."""
        named = os.environ.get(VARIABLE)
        return cls(Path(named) if named else None)

    def beat(self) -> None:
        if self._file is not None:
            self._file.touch()


def main() -> str | None:
    """What is wrong, if anything."""
    file = Path(os.environ[VARIABLE])
    try:
        age = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return "it has not begun"
    return f"its loops stand still for {age:.0f} s" if age > STALE_SECONDS else None


if __name__ == "__main__":
    sys.exit(main())
