"""A working tree as one archive, byte for byte the same for the same content, so that it is uploaded once."""

import gzip
import hashlib
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from shared.errors import Rejected

LIMIT_BYTES = 2 * 2**30
LIMIT_FILES = 300_000
MTIME_SECONDS = 1_000_000_000
"""Of every file. Not 0: zip, and with it every wheel, begins in 1980."""
COMPRESSION = 4
IGNORE_FILE = ".overspillignore"
_LARGEST_SHOWN = 3


class TreeRefused(Rejected):
    """{why}"""

    code = "tree_refused"


@dataclass(frozen=True, slots=True)
class Packed:
    path: Path
    sha256: str
    size_bytes: int
    files: int


def tree_root(start: Path) -> Path:
    """The git working tree that `start` lies in, else `start` itself."""
    for directory in (start, *start.parents):
        if (directory / ".git").exists():
            return directory
    return start


def pack(root: Path, into: Path) -> Packed:
    """Write the tree below `root` to the file `into`, a .tar.gz. Raises TreeRefused."""
    names = sorted(listed(root), key=os.fsencode)
    _check_size(root, names)
    digest = _Digest(into)
    count = 0
    with (
        digest,
        gzip.GzipFile("", "wb", COMPRESSION, digest, mtime=0) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.PAX_FORMAT, bufsize=2**18) as tar,
    ):
        for name in names:
            count += _add(tar, root, name)
    return Packed(into, digest.sha256(), digest.size_bytes, count)


def listed(root: Path) -> list[str]:
    """Names relative to `root` of what belongs to the tree. In git: what it tracks and what it doesn't ignore."""
    if not (root / ".git").exists():
        return list(_walked(root, ignored_by(root)))
    return list(_tracked(root, ""))


def _tracked(repository: Path, prefix: str) -> Iterator[str]:
    command = ["git", "-C", str(repository), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - fixed words
    except FileNotFoundError as error:
        raise TreeRefused(why="this is a git tree, but there is no `git` to ask: install it, or --no-source") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise TreeRefused(why=f"git can't list {repository}: {said[0] if said else done.returncode}")
    # A file in the middle of a merge is listed once for each side.
    for raw in dict.fromkeys(done.stdout.split(b"\0")):
        name = os.fsdecode(raw).rstrip("/")
        if not name:
            continue
        path = repository / name
        if path.is_dir() and not path.is_symlink():
            # A submodule, or a repository that lies in this one.
            if (path / ".git").exists():
                yield from _tracked(path, f"{prefix}{name}/")
        elif os.path.lexists(path):
            yield prefix + name


def _walked(root: Path, ignored: Callable[[str, str], bool]) -> Iterator[str]:
    for directory, folders, files in os.walk(root):
        at = Path(directory).relative_to(root).as_posix()
        prefix = "" if at == "." else f"{at}/"
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        kept = [name for name in folders if name not in links and name != ".git"]
        folders[:] = [name for name in kept if not ignored(prefix + name, "directory")]
        for name in (*files, *links):
            if not ignored(prefix + name, "file"):
                yield prefix + name
        if not files and not folders and not links and prefix:
            yield prefix.rstrip("/")


def ignored_by(root: Path) -> Callable[[str, str], bool]:
    """Reads `.overspillignore`: patterns as in .gitignore; `!` takes back, the last match counts."""
    rules = []
    try:
        lines = (root / IGNORE_FILE).read_text().splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            only_directories = pattern.endswith("/")
            rules.append((_regex(pattern.removeprefix("!").rstrip("/")), only_directories, pattern.startswith("!")))

    def ignored(name: str, kind: str) -> bool:
        verdict = False
        for regex, only_directories, takes_back in rules:
            if (kind == "directory" or not only_directories) and regex.fullmatch(name):
                verdict = not takes_back
        return verdict

    return ignored


def _regex(pattern: str) -> re.Pattern[str]:
    anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    text = "" if anchored else "(?:.*/)?"
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", pattern):
        match part:
            case "**/":
                text += "(?:.*/)?"
            case "**":
                text += ".*"
            case "*":
                text += "[^/]*"
            case "?":
                text += "[^/]"
            case _ if part.startswith("[") and len(part) > 1:
                text += f"[{'^' + part[2:-1] if part[1] == '!' else part[1:-1]}]"
            case _:
                text += re.escape(part)
    return re.compile(text, re.DOTALL)


def _check_size(root: Path, names: list[str]) -> None:
    sizes = {name: (root / name).lstat().st_size for name in names}
    if len(sizes) > LIMIT_FILES:
        raise TreeRefused(
            why=f"{root} has {len(sizes)} files, the limit is {LIMIT_FILES}: ignore what the build does not need"
        )
    total = sum(sizes.values())
    if total > LIMIT_BYTES:
        largest = ", ".join(sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST_SHOWN])
        raise TreeRefused(
            why=f"{root} has {total / 2**30:.1f} GiB, the limit is {LIMIT_BYTES / 2**30:.0f} GiB: ignore what the "
            f"build does not need (largest: {largest})"
        )


def _add(tar: tarfile.TarFile, root: Path, name: str) -> int:
    path = root / name
    try:
        found = path.lstat()
        info = tarfile.TarInfo(name)
        info.mtime = MTIME_SECONDS
        info.mode = 0o755 if found.st_mode & stat.S_IXUSR or stat.S_ISDIR(found.st_mode) else 0o644
        if stat.S_ISLNK(found.st_mode):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, _inside(name, os.fsdecode(path.readlink())), 0o777
            tar.addfile(info)
        elif stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
            return 0
        elif stat.S_ISREG(found.st_mode):
            with path.open("rb") as content:
                info.size = os.fstat(content.fileno()).st_size
                tar.addfile(info, content)
        else:
            # Sockets and pipes have no content to carry.
            return 0
    except OSError as error:
        why = error.strerror or "it changed meanwhile"
        raise TreeRefused(why=f"can't pack {name}: {why}; try again, or ignore it") from error
    return 1


def _inside(name: str, target: str) -> str:
    """`target`, if a link at `name` stays inside the tree with it. Raises TreeRefused."""
    there = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120 - names, not files
    if target.startswith("/") or there.startswith("../") or there == "..":
        raise TreeRefused(
            why=f"{name} is a link to {target}, which leaves the tree: ignore it (.gitignore, or .overspillignore "
            "outside git), or link inside the tree"
        )
    return target


class _Digest:
    """A file that knows size and hash of what was written to it."""

    def __init__(self, path: Path) -> None:
        self._path, self._hash, self.size_bytes = path, hashlib.sha256(), 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> int:
        if self._file is None:
            raise ValueError("not open")
        self._hash.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """GzipFile asks for it."""

    def sha256(self) -> str:
        return self._hash.hexdigest()
