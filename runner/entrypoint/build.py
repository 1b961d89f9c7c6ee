"""Finds or builds the entrypoint binary, so that a laptop with any C compiler needs no release to run a build.

A build takes about a second and is cached under `$XDG_CACHE_HOME/overspill/entrypoint` by the sources and the compiler.
Release binaries always come from zig and musl: small, and the same bytes on every machine.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.errors import OverspillError

SOURCES = Path(__file__).parent
OVERRIDE = "OVERSPILL_ENTRYPOINT"
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
WARNINGS = ("-Wall", "-Wextra", "-Werror")
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-static", "-s", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")


class NoCompiler(OverspillError):
    """The entrypoint for {arch} can't be built: install a C compiler (gcc or clang) or `pip install ziglang`."""


class BuildFailed(OverspillError):
    """The entrypoint for {arch} could not be compiled by {compiler}: {why}"""


class NoSuchArchitecture(OverspillError):
    """There is no entrypoint for {arch}; it is built for x86_64 and aarch64."""


class BadOverride(OverspillError):
    """OVERSPILL_ENTRYPOINT names {path}, which is not an executable file; correct or unset it."""


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C to a static binary of one architecture, and what tells it from other versions of it."""

    command: tuple[str, ...]
    identity: str
    flags: tuple[str, ...] = ()


def _zig(arch: str) -> Iterator[Compiler]:
    if importlib.util.find_spec("ziglang") is None:
        return
    # Zig checks for undefined behaviour by default, with a handler larger than this program.
    flags = ("-Os", "-target", f"{arch}-linux-musl", "-fno-sanitize=undefined")
    version = importlib.metadata.version("ziglang")
    yield Compiler((sys.executable, "-P", "-m", "ziglang", "cc"), f"ziglang {version}", flags)


def _installed(name: str, *flags: str) -> Iterator[Compiler]:
    path = shutil.which(name)
    if path is None:
        return
    real = Path(path).resolve()
    about = real.stat()
    yield Compiler((path,), f"{real} {about.st_size} {about.st_mtime_ns}", flags)


def _compilers(arch: str) -> Iterator[Compiler]:
    """Those that can build for `arch`, best first."""
    if arch == ARCHITECTURES.get(platform.machine()):
        yield from _installed("musl-gcc", "-Os")
        yield from _installed("cc", "-O2")
    yield from _zig(arch)


def _sources() -> list[Path]:
    return sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])


def _key(arch: str, compiler: Compiler) -> str:
    digest = hashlib.sha256(repr((arch, compiler.identity, compiler.flags, FLAGS)).encode())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overspill" / "entrypoint"


def _compile(arch: str, compiler: Compiler, target: Path) -> None:
    """Build beside `target`, then rename: of two builders at once the later wins with the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    units = [source.name for source in _sources() if source.suffix == ".c"]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        built = Path(scratch) / "entrypoint"
        command = [*compiler.command, *FLAGS, *compiler.flags, *WARNINGS, "-o", str(built), *units]
        done = subprocess.run(command, check=False, cwd=SOURCES, capture_output=True, text=True, errors="replace")  # noqa: S603
        if done.returncode != 0:
            raise BuildFailed(arch=arch, compiler=" ".join(compiler.command), why=_why(done.stderr, done.returncode))
        built.chmod(0o755)
        built.replace(target)


def _why(told: str, code: int) -> str:
    lines = [line.strip() for line in told.splitlines()]
    if any("ProcessFdQuotaExceeded" in line for line in lines):
        return "zig may not open enough files; raise the limit (ulimit -n 4096, docker build --ulimit nofile=4096:4096)"
    return next((line for line in lines if "error" in line.lower()), f"exit {code}")


def _find_or_build(arch: str, compilers: Iterator[Compiler], cache_dir: Path | None) -> Path:
    failure: OverspillError = NoCompiler(arch=arch)
    for compiler in compilers:
        target = (cache_dir or _default_cache()) / f"{arch}-{_key(arch, compiler)}" / "entrypoint"
        if target.is_file():
            return target
        try:
            _compile(arch, compiler, target)
        except BuildFailed as error:
            failure = error  # a gcc without a static libc is common; the next compiler brings its own
            continue
        return target
    raise failure


def _architecture(arch: str | None) -> str:
    name = arch or platform.machine()
    if name not in ARCHITECTURES:
        raise NoSuchArchitecture(arch=name)
    return ARCHITECTURES[name]


def binary(arch: str | None = None, cache_dir: Path | None = None) -> Path:
    """Return an entrypoint that runs on `arch` (default: this machine's), building it if need be.

    `OVERSPILL_ENTRYPOINT=path` in the environment is returned as it is, for whatever architecture.
    Raises NoSuchArchitecture, NoCompiler, BuildFailed or BadOverride, each with its remedy.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        path = Path(override)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise BadOverride(path=path)
        return path
    name = _architecture(arch)
    return _find_or_build(name, _compilers(name), cache_dir)


def release_binary(arch: str, cache_dir: Path | None = None) -> Path:
    """Return the binary that images carry: built by zig against musl, byte for byte the same wherever it is built.

    Takes a minute the first time. Raises NoSuchArchitecture, NoCompiler or BuildFailed.
    """
    name = _architecture(arch)
    return _find_or_build(name, _zig(name), cache_dir)


def chaos_binary(cache_dir: Path | None = None) -> Path:
    """Return one for this machine that dies at crash points, which no other has (shared/crash_points.py).

    Raises NoSuchArchitecture, NoCompiler or BuildFailed.
    """
    name = _architecture(None)
    compilers = (replace(compiler, flags=(*compiler.flags, "-DCRASH_POINTS")) for compiler in _compilers(name))
    return _find_or_build(name, compilers, cache_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path of the binary; 1 with one line on stderr when there is none."""
    parser = argparse.ArgumentParser(prog="python -m runner.entrypoint.build", description="Build the entrypoint.")
    parser.add_argument("--release", action="store_true", help="as the images carry it: zig and musl")
    parser.add_argument("--arch", help="x86_64 or aarch64; this machine's by default")
    options = parser.parse_args(arguments)
    try:
        path = release_binary(_architecture(options.arch)) if options.release else binary(options.arch)
    except OverspillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
