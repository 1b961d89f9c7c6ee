"""The interpreter that runs this, with what it needs and nothing else, as a root file system.

Debian's own is older than Overspill asks for, so the base is not one of Debian's packages: it is the Python at hand,
where `python:3.11-slim` has its own (/usr/local), over the machine's C library.
"""

import compileall
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_LEFT_OUT = (
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
)
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def lay(root: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = root / "usr/local/bin" / version
    program.parent.mkdir(parents=True)
    shutil.copy(Path(sys._base_executable).resolve(), program)  # type: ignore[attr-defined]  # noqa: SLF001 - documented nowhere else
    for name in ("python3", "python"):
        (program.parent / name).symlink_to(version)
    library = root / "usr/local/lib" / version
    shutil.copytree(stdlib, library, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT, "config-*", "*.a"))
    for extension in (library / "lib-dynload").glob("*.so"):
        if needs(extension) is None:
            extension.unlink()  # as _tkinter: of a library that this machine lacks
    _skeleton(root)
    add_libraries(root, [program, *library.rglob("*.so")])
    compile_all(library, root)


def _skeleton(root: Path) -> None:
    for name in ("etc/ssl/certs", "proc", "sys", "dev", "run", "var", "opt"):
        (root / name).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:\noverspill:x:65532:65532::/tmp:\n")
    (root / "etc/group").write_text("root:x:0:\noverspill:x:65532:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    if _CERTIFICATES.is_file():
        shutil.copy(_CERTIFICATES, root / "etc/ssl/certs")
    for name in ("lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")


def add_libraries(root: Path, programs: Iterable[Path], base: Path | None = None) -> None:
    """Beside the loader's own: where it looks without being told. But for those that `base`, a layer below, has."""
    for program in programs:
        for library in needs(program) or ():
            into = (
                root / "usr" / library.relative_to("/usr")
                if library.is_relative_to("/usr")
                else root / str(library)[1:]
            )
            if "ld-linux" not in library.name:
                into = root / "usr/lib" / library.name
            is_below = base is not None and (base / into.relative_to(root)).exists()
            if not into.exists() and not is_below and root not in library.parents:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library.resolve(), into)


def needs(program: Path) -> list[Path] | None:
    """Shared libraries by the loader's own account; None when one is missing."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607 - the loader of this machine
    if "not found" in told:
        return None
    words = [line.split() for line in told.splitlines()]
    return [Path(each) for line in words for each in line if each.startswith("/") and not each.endswith(":")]


def compile_all(folder: Path, root: Path) -> None:
    """Bytecode that is believed without a look at its source: the image's root can't be written."""
    done = compileall.compile_dir(
        folder,
        quiet=2,
        force=True,
        workers=0,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not done:
        raise RuntimeError(f"{folder} has sources that can't be compiled")
