"""A bus of one's own, made with nothing but the command line."""

import subprocess
from pathlib import Path

from overspill.embedded import nats_server
from overspill.embedded.binaries import nats_server as binary
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from tests.conftest import guarded, wait_for
from tests.e2e.platform import OVERSPILL, clean_environment


def overspill(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*OVERSPILL, "identity", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environment(home), timeout=60, check=False)


async def test_a_server_runs_with_the_printed_configuration_and_knows_its_parties(tmp_path: Path) -> None:
    where, store = str(tmp_path / "identity"), tmp_path / "store"
    store.mkdir()
    assert overspill(tmp_path, "create", "--identity", where).returncode == 0
    arguments = ("--identity", where, "--store", str(store), "--listen", "127.0.0.1:0")
    config = overspill(tmp_path, "config", *arguments)
    assert config.returncode == 0, config.stderr
    seeds = [path.read_text().strip() for path in Path(where).rglob("*.seed")]
    assert seeds
    assert not any(seed in config.stdout for seed in seeds)
    (tmp_path / "nats.conf").write_text(config.stdout.replace("port: 0", "port: -1"))
    log = tmp_path / "server.log"
    with guarded([str(binary()), "--config", str(tmp_path / "nats.conf")], log) as process:
        url = wait_for(lambda: nats_server.told_url(store), process, log)
        async with NatsBus.connect(url, Identity.load(Path(where)).credential(PROVISIONER)) as bus:
            await provision(bus)
            assert bus.connected


def test_a_missing_identity_is_told_with_the_remedy(tmp_path: Path) -> None:
    where = str(tmp_path / "identity")
    none = overspill(tmp_path, "config", "--identity", where, "--store", str(tmp_path))
    assert none.returncode != 0
    assert f"overspill identity create --identity {where}" in none.stderr
