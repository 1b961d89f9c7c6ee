"""Clusters: what there is, and for operators how one joins and leaves."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overspill.cli.asking import ask
from overspill.cli.options import AsJson
from overspill.cli.output import console, say, show_json
from overspill.complaint import Complaint, Exit, NoSuch

if TYPE_CHECKING:
    from overspill.client import Client

NAMESPACE, SECRET, KEY = "overspill", "overspill-bus", "controller.creds"
KINDS = ("fixed", "serverless", "agents")
LOOK_SECONDS = 1.0

clusters = typer.Typer(
    help="List clusters and their machines; let clusters join and leave.", rich_markup_mode=None, add_completion=False
)
Name = Annotated[str, typer.Argument(help="the cluster's name: a-z, 0-9 and -", show_default=False)]


@clusters.callback(invoke_without_command=True)
def _listed(context: typer.Context, *, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@clusters.command("list")
def _list(*, as_json: AsJson = False) -> None:
    """List the machines that run jobs."""

    async def work(client: "Client") -> None:
        told = await client.clusters()
        if as_json:
            show_json(told)
            return
        import time

        from overspill.view.tables import clusters_table

        console().print(clusters_table(told["clusters"], time.time()))

    ask(work)


@clusters.command()
def show(name: Name, *, as_json: AsJson = False) -> None:
    """Show a cluster: its state, when it was heard, its pools and what is free in them."""

    async def work(client: "Client") -> None:
        found = await _found(client, name)
        if as_json:
            show_json(found)
            return
        from overspill.view.tables import pools_table

        age = found["age_seconds"]
        say(f"{name}: {found['state']}, " + ("never heard" if age is None else f"heard {age:.0f} s ago"))
        console().print(pools_table(found["pools"]))

    ask(work)


async def _found(client: "Client", name: str) -> dict[str, Any]:
    """Raises NoSuch."""
    for cluster in (await client.clusters())["clusters"]:
        if cluster["cluster"] == name:
            return dict(cluster)
    raise NoSuch(f"there is no cluster {name!r}; see `overspill clusters`")


@clusters.command()
def join(
    name: Name,
    *,
    bus: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="the bus as its pods reach it; may repeat")
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="URL", help="the object store as its pods reach it; default: the hub's own")
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=KIND]", help="fixed, serverless or agents; may repeat; at first: nodes=fixed"),
    ] = None,
    tenant: Annotated[list[str] | None, typer.Option(help="only these may run there; may repeat")] = None,
    credential: Annotated[
        Path | None, typer.Option(help="write the controller's credential here", show_default="NAME.creds")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="until it expires; default: never")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a cluster join, or change what is known of it; prints what to install there. For operators."""
    asked = {"bus_urls": bus, "object_url": objects, "pools": _pools(pool), "tenants": tenant}
    about: dict[str, Any] = {key: value for key, value in asked.items() if value} | {"cordoned": False}
    file = credential or Path(f"{name}.creds")

    async def work(client: "Client") -> None:
        if not pool and not any(each["cluster"] == name for each in (await client.clusters())["clusters"]):
            about["pools"] = _pools(["nodes"])
        record = await client.put_cluster(name, about)
        text = await client.cluster_credential(name, None if days is None else days * 86_400)
        _write(file, text)
        values = {"bus.url": ",".join(record["bus_urls"]), "bus.credentialSecret": SECRET, "cluster": name}
        if as_json:
            show_json({"record": record, "values": values, "credential": str(file)})
            return
        sets = [shlex.quote(f"{key}={value}".replace(",", "\\,")) for key, value in values.items()]
        say(f"{name} is known; its credential is in {file}. In the cluster:\n")
        say(f"kubectl create namespace {NAMESPACE}")
        say(
            f"kubectl -n {NAMESPACE} create secret generic {SECRET} --from-file={shlex.quote(f'{KEY}={file}')}\n"
            f"helm install edge deploy/helm/overspill-edge -n {NAMESPACE} --set " + " --set ".join(sets)
        )

    ask(work)


def _pools(told: list[str] | None) -> list[dict[str, str]]:
    """Raises Complaint."""
    pools = []
    for text in told or ():
        name, _, kind = text.partition("=")
        if kind and kind not in KINDS:
            raise Complaint(f"--pool {text!r}: the kind is one of {', '.join(KINDS)}", Exit.USAGE)
        pools.append({"pool": name, "kind": kind or "fixed"})
    return pools


def _write(file: Path, text: str) -> None:
    """Readable by its owner alone."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


@clusters.command()
def cordon(name: Name) -> None:
    """Place nothing more in a cluster; what runs there goes on. For operators."""
    _set_cordoned(name, f"{name} is cordoned: `overspill clusters uncordon {name}` lifts it", cordoned=True)


@clusters.command()
def uncordon(name: Name) -> None:
    """Place jobs in a cluster again. For operators."""
    _set_cordoned(name, f"{name} is not cordoned: jobs are placed there", cordoned=False)


def _set_cordoned(name: str, said: str, *, cordoned: bool) -> None:
    async def work(client: "Client") -> None:
        await _cordon(client, name, cordoned=cordoned)
        say(said)

    ask(work)


@clusters.command()
def remove(
    name: Name,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="place nothing more there, and wait for what runs")] = False,
    force: Annotated[bool, typer.Option("--force", help="also while jobs run there: they are lost")] = False,
) -> None:
    """Take a cluster out: its record and its account. For operators."""

    async def work(client: "Client") -> None:
        if drain:
            await _cordon(client, name, cordoned=True)
            await _until_idle(client, name)
        await client.remove_cluster(name, force=force)
        say(f"{name} is removed; `helm uninstall edge -n {NAMESPACE}` there takes its controller away")

    ask(work)


async def _cordon(client: "Client", name: str, *, cordoned: bool) -> None:
    """Raises NoSuch, so that nothing new is made of a slip."""
    await _found(client, name)
    await client.put_cluster(name, {"cordoned": cordoned})


async def _until_idle(client: "Client", name: str) -> None:
    import asyncio

    while True:
        if not (await _found(client, name))["jobs"]:
            return
        await asyncio.sleep(LOOK_SECONDS)
