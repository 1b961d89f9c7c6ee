"""Lines that steps write for the platform: `NAME=value`, or `NAME<<WORD`, lines, `WORD`. Pure."""

import re
from typing import Final

from runner.step_ctl.policy import Outputs

OUTPUT_LIMIT_BYTES: Final = 65_536
_PLAIN = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_HEREDOC = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)<<(\S+)")


def parse(data: bytes) -> Outputs:
    """Later lines win. Anything that is not understood, or too much of it, makes the whole be left out, with why."""
    if len(data) > OUTPUT_LIMIT_BYTES:
        return Outputs({}, f"its outputs were dropped: {len(data)} bytes, at most {OUTPUT_LIMIT_BYTES} are kept")
    values: dict[str, str] = {}
    lines = data.decode(errors="replace").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if heredoc := _HEREDOC.fullmatch(line):
            name, word = heredoc.groups()
            if word not in lines[at:]:
                return Outputs(
                    {}, f"its outputs were dropped: line {at} opens {name}<<{word[:40]}, which no line closes"
                )
            end = lines.index(word, at)
            values[name] = "\n".join(lines[at:end])
            at = end + 1
        elif plain := _PLAIN.fullmatch(line):
            values[plain[1]] = plain[2]
        elif line:
            return Outputs({}, f"its outputs were dropped: line {at} is no NAME=value")
    return Outputs(values)
