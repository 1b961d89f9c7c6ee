"""Which files of the workspace an artifact is, and its reproducible archive. Nothing outside the workspace can get
in.
"""

import gzip
import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import OverspillError

MAX_FILES = 500_000
LIMIT_BYTES = 5 * 2**30
"""Packed: what one PUT may carry."""
MTIME = 315_532_800
"""1980-01-01: the same files make the same bytes, and the oldest date that zip tools know."""
COMPRESS_LEVEL = 3


class ArtifactTooLarge(OverspillError):
    """Artifact {name}: {why}; split it, or keep less."""

    code = "artifact_too_large"


@dataclass(frozen=True, slots=True)
class Packed:
    size_bytes: int
    sha256: str
    files: int


@dataclass(frozen=True, slots=True)
class Matches:
    """Paths relative to the workspace, sorted; and what was left out, with why."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def _translate(pattern: str) -> re.Pattern[str]:
    """A glob for a path's whole text: `**` is any number of directories, `*` stays within one."""
    out: list[str] = []
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out.append(".*" if last else "(?:[^/]+/)*")
            continue
        out.append(_translate_part(part) + ("" if last else "/"))
    return re.compile("(?s)" + "".join(out))


def _translate_part(part: str) -> str:
    out = ""
    for piece in re.findall(r"\*+|\?|\[!?\]?[^]]*\]|.", part, re.DOTALL):
        if piece.startswith("*"):
            out += "[^/]*"
        elif piece == "?":
            out += "[^/]"
        elif len(piece) > 1:
            inside = piece[1:-1].replace("\\", r"\\")
            out += f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside}]"
        else:
            out += re.escape(piece)
    return out


def _beginning(pattern: str) -> Path:
    """The directories at the head of a pattern that hold no wildcard: where looking begins."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    plain = []
    for part in parts[:-1]:
        if any(character in part for character in "*?["):
            break
        plain.append(part)
    return Path(*plain) if plain else Path()


def find(workspace: Path, patterns: Sequence[str]) -> Matches:
    """Files and links that match; a directory stands for everything below it. Blocking.

    Raises ArtifactTooLarge past MAX_FILES; OSError for a directory that matches and can't be read.
    """
    root = workspace.resolve()
    found: set[Path] = set()
    left_out: list[str] = []
    for pattern in patterns:
        begin = _beginning(pattern)
        if not (root / begin).resolve().is_relative_to(root):
            left_out.append(f"{begin} leads out of the workspace")
            continue
        expression = _translate(pattern)
        for path, closed in _walk(root, begin):
            matches = any(
                expression.fullmatch(str(Path(*path.parts[:depth]))) for depth in range(1, len(path.parts) + 1)
            )
            if closed is not None:
                if matches:
                    raise closed
                left_out.append(f"{path} can't be looked into: {closed.strerror}")
            elif matches:
                found.add(path)
                if len(found) > MAX_FILES:
                    raise ArtifactTooLarge(name=pattern, why=f"more than {MAX_FILES} files match")
    inside = {path for path in found if _stays_inside(root, path)}
    left_out += [f"{path} leads out of the workspace" for path in sorted(found - inside)]
    return Matches(tuple(sorted(inside)), tuple(left_out))


def _walk(root: Path, begin: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Files and links; and directories that may not be read, with why."""
    closed: list[OSError] = []
    for where, directories, files in os.walk(root / begin, onerror=closed.append):
        here = Path(where).relative_to(root)
        links = [name for name in directories if (Path(where) / name).is_symlink()]
        for name in (*files, *links):
            path = here / name
            if (root / path).is_file() or (root / path).is_symlink():
                yield path, None
    for error in closed:
        if isinstance(error, PermissionError):
            yield Path(error.filename).relative_to(root), error


def _stays_inside(root: Path, path: Path) -> bool:
    full = root / path
    return not full.is_symlink() or full.resolve().is_relative_to(root)


def pack(workspace: Path, paths: Sequence[Path], target: Path, name: str) -> Packed:
    """A .tar.gz of `paths`: the same for the same content. Blocking. Raises ArtifactTooLarge."""
    digest, size = hashlib.sha256(), 0
    root = workspace.resolve()
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=COMPRESS_LEVEL, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in paths:
            _add(archive, root, path)
            if raw.tell() > LIMIT_BYTES:
                raise ArtifactTooLarge(name=name, why=f"it is larger than {LIMIT_BYTES} bytes packed")
    with target.open("rb") as file:
        while block := file.read(1_048_576):
            digest.update(block)
            size += len(block)
    return Packed(size, digest.hexdigest(), len(paths))


def _add(archive: tarfile.TarFile, root: Path, path: Path) -> None:
    member = archive.gettarinfo(root / path, arcname=str(path))
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = MTIME
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    if member.islnk():  # a second name of a file: stored as a file, so that order can't change the bytes
        member.type, member.linkname = tarfile.REGTYPE, ""
        member.size = (root / path).stat().st_size
    if member.isreg():
        with (root / path).open("rb") as file:
            archive.addfile(member, file)
    else:
        archive.addfile(member)
