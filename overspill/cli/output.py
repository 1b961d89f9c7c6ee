"""Where text goes: colour on terminals only, JSON where asked, errors as one line on stderr."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""Columns of a table that no terminal limits."""


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def show_json(value: Any) -> None:
    """One document, readable."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def show_json_line(value: Any) -> None:
    """One line of many; programs read them as they come."""
    say(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    sys.stdout.flush()


def complain(message: str) -> None:
    """One line; red on a terminal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    head = "\x1b[31moverspill:\x1b[0m" if colour else "overspill:"
    sys.stderr.write(f"{head} {message}\n")


def note(message: str) -> None:
    """What a person wants to know and a pipe does not."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def drop_output() -> None:
    """Nobody reads any more: what is left to be flushed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def can_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf8sig")


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> "Console":
    """Honours NO_COLOR; writes wide lines where no terminal cuts them."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=int(os.environ.get("COLUMNS", WIDE)), color_system=None)
