"""What steps inherit of the machine."""

from pathlib import Path

from runner.agent.environment import machine_environment
from runner.agent.settings import PASS_ENV


def test_only_what_is_listed_passes(tmp_path: Path) -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "PIP_INDEX_URL": "m",
        "AWS_SECRET_ACCESS_KEY": "s",
        "OVERSPILL_X": "1",
        "LD_PRELOAD": "evil.so",
    }
    assert machine_environment(environ, PASS_ENV, tmp_path) == {
        "LANG": "C.UTF-8",
        "LC_ALL": "C",
        "PATH": "/bin",
        "PIP_INDEX_URL": "m",
        "SHELL": "/bin/sh",
        "TERM": "dumb",
    }


def test_a_secret_passes_only_by_its_own_name(tmp_path: Path) -> None:
    environ = {"CARGO_REGISTRY_TOKEN": "s", "npm_config__auth": "s", "UV_PUBLISH_PASSWORD": "s"}
    assert not set(machine_environment(environ, PASS_ENV, tmp_path)) & set(environ)
    assert "CARGO_REGISTRY_TOKEN" in machine_environment(environ, ["CARGO_REGISTRY_TOKEN"], tmp_path)


def test_toolchains_are_found_beside_their_shims(tmp_path: Path) -> None:
    (tmp_path / "other" / ".rustup" / "toolchains" / "stable").mkdir(parents=True)
    (tmp_path / "home" / ".rustup").mkdir(parents=True)  # made by a shim that found none
    path = f"/bin:{tmp_path}/other/.cargo/bin"
    found = machine_environment({"PATH": path}, PASS_ENV, tmp_path / "home")
    assert found["RUSTUP_HOME"] == str(tmp_path / "other" / ".rustup")


def test_toolchains_are_found_though_home_is_fresh(tmp_path: Path) -> None:
    (tmp_path / ".rustup" / "toolchains" / "stable").mkdir(parents=True)
    assert machine_environment({}, PASS_ENV, tmp_path)["RUSTUP_HOME"] == str(tmp_path / ".rustup")
    assert machine_environment({"RUSTUP_HOME": "/r"}, PASS_ENV, tmp_path)["RUSTUP_HOME"] == "/r"
