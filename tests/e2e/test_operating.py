"""What an operator types for clusters and tenants."""

import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.platform import OVERSPILL, Platform, clean_environment

ROOT = Path(__file__).parents[2]
CHART = "deploy/helm/overspill-edge"
BUS = "nats://bus.example.org:4222"
PATIENCE_SECONDS = 60.0
BUSY = "steps: [{name: wait, run: 'while [ ! -e %s ]; do sleep 0.05; done'}]"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Platform]:
    """A platform whose cluster may go."""
    platform = Platform(tmp_path, tmp_path / "data")
    platform.start()
    yield platform
    platform.end(signal.SIGTERM)


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What it says once it says so: the command line has no other way of waiting for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds(said := ask()):
        assert time.monotonic() < deadline, said
    return said


def cluster(platform: Platform, name: str) -> Any:
    return platform.run("clusters", "show", name, "--json").json()


def test_join_writes_a_credential_of_its_owner_s_and_prints_what_the_chart_asks_for(platform: Platform) -> None:
    joined = platform.run("clusters", "join", "c9", "--bus", BUS, "--pool", "nodes", "--pool", "eci=serverless")
    assert joined.code == 0, joined.err
    credential = platform.home / "c9.creds"
    assert stat.S_IMODE(credential.stat().st_mode) == 0o600
    assert "BEGIN NATS USER JWT" in credential.read_text()
    namespace, secret, install = (shlex.split(line) for line in joined.out.split("\n\n", 1)[1].splitlines())
    chart = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    assert namespace == ["kubectl", "create", "namespace", "overspill"]
    assert secret[5:] == ["generic", "overspill-bus", f"--from-file={chart['bus']['credentialKey']}=c9.creds"]
    assert install[:6] == ["helm", "install", "edge", CHART, "-n", "overspill"]
    asked = [f"bus.{key}" for key, value in chart["bus"].items() if value == ""] + ["cluster"]
    assert chart["cluster"] == ""
    values = dict(word.split("=", 1) for word in install[6:] if word != "--set")
    assert values == dict(zip(asked, (BUS, "overspill-bus", "c9"), strict=True))
    assert f"helm install edge {CHART} -n overspill" in (ROOT / CHART / "README.md").read_text().replace(" \\\n", "")
    pools = {pool["pool"]: pool["kind"] for pool in cluster(platform, "c9")["pools"]}
    assert pools == {"nodes": "fixed", "eci": "serverless"}
    assert platform.run("clusters", "remove", "c9").code == 0


def test_joining_again_changes_what_is_named_and_leaves_the_rest(platform: Platform) -> None:
    first = platform.run(
        "clusters", "join", "c8", "--bus", BUS, "--tenant", "acme", "--credential", "x.creds", "--json"
    )
    record = first.json()["record"]
    assert (record["tenants"], [pool["pool"] for pool in record["pools"]], first.json()["credential"]) == (
        ["acme"],
        ["nodes"],
        "x.creds",
    )
    again = platform.run(
        "clusters", "join", "c8", "--bus", BUS, "--bus", "tls://b:1", "--credential", "y.creds", "--json"
    )
    assert again.json()["record"] == record | {"bus_urls": [BUS, "tls://b:1"]}
    assert again.json()["values"]["bus.url"] == f"{BUS},tls://b:1"
    printed = platform.run("clusters", "join", "c8").out
    assert f"bus.url={BUS}\\,tls://b:1" in shlex.split(printed)
    assert platform.run("clusters", "remove", "c8").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("clusters", "join", "c7"), "bus_urls"),
        (("clusters", "join", "c7", "--bus", "http://b"), "bus_urls"),
        (("clusters", "join", "c7", "--bus", BUS, "--pool", "a=b"), "fixed, serverless, agents"),
        (("clusters", "join", "C7", "--bus", BUS), "cluster"),
        (("clusters", "show", "c7"), "see `overspill clusters`"),
        (("clusters", "cordon", "c7"), "no cluster 'c7'"),
        (("clusters", "uncordon", "c7"), "no cluster 'c7'"),
        (("clusters", "remove", "c7"), "no cluster c7"),
        (("clusters", "remove", "c7", "--drain"), "no cluster 'c7'"),
        (("tenant", "create", "nobody", "--namespace", "kube-system"), "kube-system"),
        (("tenant", "create", "nobody", "--allow", "10.0.0.0/99"), "egress"),
        (("tenant", "show", "nobody"), "no tenant nobody"),
        (("tenant", "key", "create", "nobody"), "no tenant nobody"),
        (("tenant", "key", "create", "default", "--role", "king"), "role"),
        (("tenant", "key", "revoke", "default", "nokey"), "nokey"),
        (("tenant", "delete", "nobody"), "no tenant nobody"),
        (("tenant", "delete", "default"), "your own tenant"),
    ],
)
def test_what_can_t_be_is_one_line_that_names_it_and_changes_nothing(
    platform: Platform, words: tuple[str, ...], said: str
) -> None:
    done = platform.run(*words)
    assert done.code == 2, done.out
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (platform.home / "c7.creds").exists()
    left = platform.run(words[0], "list", "--json").json()
    names = {each[words[0].removesuffix("s")] for each in next(iter(left.values()))}
    assert {"local", "default"} & names
    assert not {"c7", "C7", "nobody"} & names


def test_a_cluster_with_jobs_is_removed_by_drain_once_they_have_ended(own: Platform) -> None:
    done = own.home / "done"
    job = own.run("run", "--detach", cwd=own.spec(BUSY % done)).out.strip()
    until(lambda: own.run("show", job, "--json").json(), lambda view: view["state"] == "placed")
    refused = own.run("clusters", "remove", "local")
    assert refused.code == 2
    assert job in refused.err
    assert cluster(own, "local")["state"] == "ready"
    removing = own.popen("clusters", "remove", "local", "--drain")
    until(lambda: cluster(own, "local"), lambda view: view["state"] == "draining")
    late = own.run("run", "--detach", cwd=own.spec("steps: [{run: 'true'}]")).out.strip()
    until(lambda: own.run("show", late, "--json").json(), lambda view: view["waiting_for"] == "draining")
    assert removing.poll() is None
    done.touch()
    out, err = removing.communicate(timeout=PATIENCE_SECONDS)
    assert (removing.returncode, err) == (0, "")
    assert "helm uninstall edge -n overspill" in out
    assert own.run("show", job, "--json").json()["state"] == "succeeded"
    assert own.run("clusters", "list", "--json").json()["clusters"] == []


def test_a_cordoned_cluster_gets_nothing_more_until_it_is_uncordoned(own: Platform) -> None:
    done = own.run("clusters", "cordon", "local")
    assert (done.code, done.err) == (0, "")
    assert "overspill clusters uncordon local" in done.out
    assert cluster(own, "local")["state"] == "draining"
    job = own.run("run", "--detach", cwd=own.spec("steps: [{run: 'true'}]")).out.strip()
    until(lambda: own.run("show", job, "--json").json(), lambda view: view["waiting_for"] == "draining")
    assert own.run("clusters", "uncordon", "local").code == 0
    until(lambda: own.run("show", job, "--json").json(), lambda view: view["state"] == "succeeded")
    assert cluster(own, "local")["state"] == "ready"


def test_a_cluster_with_jobs_is_removed_at_once_by_force(own: Platform) -> None:
    job = own.run("run", "--detach", cwd=own.spec(BUSY % (own.home / "never"))).out.strip()
    until(lambda: own.run("show", job, "--json").json(), lambda view: view["state"] == "placed")
    assert own.run("clusters", "remove", "local", "--force").code == 0
    assert own.run("clusters", "list", "--json").json()["clusters"] == []


def test_a_new_tenant_comes_in_with_the_key_it_was_created_with_until_that_is_revoked(platform: Platform) -> None:
    file = platform.home / "beta.token"
    assert platform.run("tenant", "create", "beta", "--key", str(file)).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    environment = clean_environment(platform.home)
    environment |= {"OVERSPILL_URL": platform.ready["url"], "OVERSPILL_TOKEN_FILE": str(file)}

    def as_beta(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*OVERSPILL, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    until(lambda: as_beta("jobs"), lambda done: done.returncode == 0)
    tree = platform.spec("steps: [{run: echo mine}]")
    done = as_beta("run", "--no-source", str(tree / "build.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine" in done.stdout
    (key,) = platform.run("tenant", "key", "list", "beta", "--json").json()["keys"]
    printed = platform.run("tenant", "key", "create", "beta", "--name", "second", "--role", "reader", "--days", "1").out
    assert printed.startswith("osp_")
    second = platform.run("tenant", "key", "list", "beta").out.splitlines()[1]
    assert all(word in second for word in (printed.split("_")[1], "reader", "second"))
    assert platform.run("tenant", "key", "revoke", "beta", key["id"]).out == f"{key['id']} is revoked\n"
    until(lambda: as_beta("jobs"), lambda done: done.returncode == 2 and "withdrawn" in done.stderr)
    assert platform.run("tenant", "delete", "beta").code == 0


def test_a_tenant_is_created_changed_shown_listed_and_deleted(platform: Platform) -> None:
    about = ("--namespace", "acme-b", "--allow", "10.1.0.0/16", "--pods", "5", "--cpus", "2.5", "--memory-gib", "4")
    made = platform.run("tenant", "create", "acme", *about, "--active", "3", "--weight", "2", "--display-name", "Acme")
    assert (made.code, made.out) == (0, "acme is known; its namespaces are overspill-acme, acme-b\n")
    view = platform.run("tenant", "create", "acme", "--pods", "6", "--json").json()
    assert view["pod_quota"] == {"pods": 6, "cpu_millis": 2500, "memory_bytes": 4 * 2**30}
    assert (view["egress"], view["weight"], view["display_name"], view["limits"]["max_active_jobs"]) == (
        [{"cidr": "10.1.0.0/16", "ports": []}],
        2.0,
        "Acme",
        3,
    )
    assert platform.run("tenant", "show", "acme", "--json").json() == view
    shown = platform.run("tenant", "show", "acme").out
    assert shown == "acme: active, weight 2\n  namespaces: overspill-acme, acme-b\n  may reach: 10.1.0.0/16\n"
    assert "acme\n" in platform.run("tenant", "list").out.splitlines(keepends=True)
    deleted = platform.run("tenant", "delete", "acme")
    assert (deleted.code, deleted.out) == (0, "acme is being deleted: nobody comes in for it any more\n")
    assert "acme  being deleted\n" in platform.run("tenant", "list").out.splitlines(keepends=True)
    refused = platform.run("tenant", "create", "acme")
    assert refused.code == 2
    assert "deleted" in refused.err
