"""A binary for every machine, with what it has."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.entrypoint import build

SIZE_LIMIT = 150_000
ROOT = Path(build.__file__).parents[2]
needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs `pip install ziglang`")


@pytest.fixture(autouse=True)
def no_binary_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(build.OVERRIDE, raising=False)


def test_a_binary_is_built_once(tmp_path: Path) -> None:
    first = build.binary(cache_dir=tmp_path)
    made = first.stat().st_mtime_ns
    assert build.binary(cache_dir=tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert subprocess.run([first, "version"], check=False, capture_output=True).stdout == b"overspill-entrypoint 1\n"


def test_two_who_build_at_once_both_get_a_whole_binary(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner.entrypoint.build"]
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}

    def one(_: int) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(one, range(3)))
    assert len(paths) == 1
    built = Path(paths.pop().strip())
    assert built.is_relative_to(tmp_path / "overspill" / "entrypoint")
    assert subprocess.run([built, "version"], check=False).returncode == 0
    assert [path.name for path in built.parent.iterdir()] == ["entrypoint"]


def test_a_changed_source_is_another_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for source in build._sources():
        (sources / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "SOURCES", sources)
    before = build.binary(cache_dir=tmp_path / "cache")
    (sources / "main.c").write_text((sources / "main.c").read_text().replace("entrypoint 1", "entrypoint 2"))
    after = build.binary(cache_dir=tmp_path / "cache")
    assert before != after
    assert subprocess.run([after, "version"], check=False, capture_output=True).stdout == b"overspill-entrypoint 2\n"


def test_the_environment_may_name_a_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSPILL_ENTRYPOINT", "/bin/true")
    assert build.binary() == Path("/bin/true")
    monkeypatch.setenv("OVERSPILL_ENTRYPOINT", str(tmp_path))
    with pytest.raises(build.BadOverride, match="correct or unset it"):
        build.binary()


def test_without_any_compiler_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(build.NoCompiler, match=r"install a C compiler \(gcc or clang\) or `pip install ziglang`"):
        build.binary(cache_dir=tmp_path)
    with pytest.raises(build.NoSuchArchitecture, match="z80"):
        build.binary("z80", cache_dir=tmp_path)


def test_a_compiler_that_can_not_link_makes_way_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = build.Compiler(("/bin/false",), "broken")
    real = build._compilers
    monkeypatch.setattr(build, "_compilers", lambda arch: iter([broken, *real(arch)]))
    assert build.binary(cache_dir=tmp_path).exists()
    monkeypatch.setattr(build, "_compilers", lambda _: iter([broken]))
    with pytest.raises(build.BuildFailed, match="/bin/false"):
        build.binary(cache_dir=tmp_path)


def test_a_limit_of_open_files_that_zig_reaches_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "echo 'error: sub-compilation failed\nnote: failed to spawn: ProcessFdQuotaExceeded' >&2; exit 1"
    monkeypatch.setattr(build, "_compilers", lambda _: iter([build.Compiler(("/bin/sh", "-c", says), "zig")]))
    with pytest.raises(build.BuildFailed, match="--ulimit nofile=4096:4096"):
        build.binary(cache_dir=tmp_path)


@pytest.mark.slow
@needs_zig
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_release_binaries_are_small_static_and_the_same_wherever_they_are_built(arch: str, tmp_path: Path) -> None:
    one, other = build.release_binary(arch, tmp_path / "a"), build.release_binary(arch, tmp_path / "b")
    content = one.read_bytes()
    assert content == other.read_bytes()
    assert len(content) <= SIZE_LIMIT
    assert int.from_bytes(content[18:20], "little") == {"x86_64": 62, "aarch64": 183}[arch]
    assert b"/ld-" not in content


def test_the_command_line_prints_the_path() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.entrypoint.build"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert Path(done.stdout.strip()) == build.binary()
    wrong = subprocess.run(
        [sys.executable, "-m", "runner.entrypoint.build", "--arch", "z80"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
