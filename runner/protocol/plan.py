"""A step's planned files as one blob: how they reach a container, whose volumes hold few and flat names. Pure.

One record a file: `<octal mode> <length> <path>`, a line feed, the bytes, a line feed. A path that ends in a slash is a
directory. `entrypoint run --plan` unpacks it into the attempt directory.
"""

from collections.abc import Iterable, Sequence

from runner.protocol.layout import PlannedFile

PLACES = ("work/", "home/", "tmp/", "go/", "lost/")
"""Directories that every attempt has."""


def pack(files: Iterable[PlannedFile]) -> bytes:
    return b"".join(_record(file.path, file.data, file.mode) for file in files)


def plans(files: Sequence[PlannedFile]) -> dict[str, bytes]:
    """`NNN` of each step to what its container unpacks. What belongs to no step comes with every one."""
    numbers = sorted({number for file in files if (number := _step_of(file.path)) is not None})
    common = [PlannedFile(place) for place in PLACES] + [file for file in files if _step_of(file.path) is None]
    return {number: pack([*common, *(file for file in files if _step_of(file.path) == number)]) for number in numbers}


def _step_of(path: str) -> str | None:
    first, _, rest = path.partition("/")
    return rest.partition("/")[0] if first == "steps" else None


def _record(path: str, data: bytes, mode: int) -> bytes:
    return f"{mode:o} {len(data)} {path}\n".encode() + data + b"\n"
