"""The Dockerfile's images without Docker and without a registry: for tests, demos and clusters cut off from both.

Layers are kept by what they are made of, in the cache: only what changed is made again.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.docker import git, python
from deploy.docker.contents import CONTENTS, ENTRYPOINTS, ENVIRONMENT, HOME, USER, Contents
from deploy.docker.failing import BuildFailed
from deploy.docker.lock import LOCK, select
from deploy.docker.oci import ARCHITECTURES, Image
from runner.entrypoint.build import release_binary
from shared.version import VERSION

_SOURCE = Path(__file__).parents[2]
_ELF = b"\x7fELF"
_LAYOUT = 2
"""Another number makes all layers anew: for when this file, git.py or python.py lays them out differently."""


def image(kind: str, name: str | None = None) -> Image:
    """Build what is missing. `kind`: of CONTENTS. Raises BuildFailed, NotLocked, NoCompiler."""
    contents = CONTENTS[kind]
    requirements = select(LOCK.read_text(), contents.wheels, contents.without)
    base = _layer("python", sys.version, python.lay)
    wheels = _layer(
        "wheels",
        f"{sys.version}{requirements}",
        lambda root: _wheels(root, requirements, base),
    )
    layers: tuple[Path, ...] = (
        base,
        wheels,
        _layer("sources", _state_of(contents), lambda root: _sources(root, contents)),
    )
    if contents.has_git:
        layers += (_layer("git", git.version(), lambda root: git.lay(root, base)),)
    if contents.has_shell:
        layers += (_layer("shell", str(shutil.which("busybox")), _shell),)
    return Image(
        name=name or f"overspill/{kind}:{VERSION}",
        layers=layers,
        entrypoint=contents.command,
        command=contents.arguments,
        environment=ENVIRONMENT
        | contents.environment
        | ({"OVERSPILL_ENTRYPOINT": f"{ENTRYPOINTS}/own"} if contents.entrypoints else {}),
        user=f"{USER}:{USER}",
    )


def _wheels(root: Path, requirements: str, base: Path) -> None:
    target = root / HOME[1:]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", str(target), "-r", file.name]
        told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if told.returncode:
        raise BuildFailed(told.stderr)
    for program in (target / "bin").glob("*"):
        if program.read_bytes()[:4] != _ELF:
            program.unlink()  # it starts with this machine's Python, which is not the image's
    python.add_libraries(root, target.rglob("*.so*"), base)
    python.compile_all(target, root)


def _sources(root: Path, contents: Contents) -> None:
    target = root / HOME[1:]
    for name in contents.sources:
        shutil.copytree(_SOURCE / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.h"))
    python.compile_all(target, root)
    if contents.entrypoints:
        folder = root / ENTRYPOINTS[1:]
        folder.mkdir()
        for machine, architecture in ARCHITECTURES.items():
            shutil.copy(release_binary(machine), folder / architecture)
        (folder / "own").symlink_to(ARCHITECTURES[platform.machine()])


def _shell(root: Path) -> None:
    """Debian's busybox-static, where the Docker image has what its base brings."""
    program = shutil.which("busybox")
    if program is None:
        raise BuildFailed("an image in which steps or git run needs a shell: apt-get install busybox-static")
    folder = root / "usr/bin"
    folder.mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    shutil.copy(program, folder / "busybox")
    told = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)  # noqa: S603 - found on PATH
    for applet in told.stdout.split():
        if applet != "busybox":
            (folder / applet).symlink_to("busybox")


def _layer(kind: str, made_of: str, make: Callable[[Path], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overspill" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    found = cache / f"{kind}-{hashlib.sha256(f'{_LAYOUT} {made_of}'.encode()).hexdigest()[:20]}"
    if found.is_dir():
        return found
    with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        make(root)
        try:
            root.rename(found)
        except OSError:
            if not found.is_dir():  # else somebody made the same meanwhile
                raise
    return found


def _state_of(contents: Contents) -> str:
    """The sources as they are, committed or not."""
    state = hashlib.sha256(repr(contents).encode())
    for name in contents.sources:
        for path in sorted((_SOURCE / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                state.update(f"{path.relative_to(_SOURCE)} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()
