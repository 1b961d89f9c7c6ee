"""Tenants, for operators."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overspill.cli import keys
from overspill.cli.asking import ask
from overspill.cli.keys import write_token
from overspill.cli.options import AsJson
from overspill.cli.output import say, show_json

if TYPE_CHECKING:
    from overspill.client import Client

tenant = typer.Typer(
    help="Tenants and their walls; for operators.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
tenant.add_typer(keys.key, name="key")
Name = Annotated[str, typer.Argument(help="the tenant's name: a-z, 0-9 and -", show_default=False)]


@tenant.command()
def create(
    name: Name,
    *,
    display_name: Annotated[str | None, typer.Option(help="for people")] = None,
    namespace: Annotated[list[str] | None, typer.Option(help="beside its default one; may repeat")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="private addresses its pods may reach; may repeat")
    ] = None,
    pods: Annotated[int | None, typer.Option(min=1, help="at most so many in a namespace of a cluster")] = None,
    cpus: Annotated[float | None, typer.Option(min=0.001, help="of all of them")] = None,
    memory_gib: Annotated[float | None, typer.Option(min=0.001, help="of all of them")] = None,
    active: Annotated[int | None, typer.Option(min=0, help="jobs placed at once")] = None,
    weight: Annotated[float | None, typer.Option(min=0.001, help="of its fair share")] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="make an API key, written here for you alone"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant, or change it: what is left out stays as it was."""

    async def work(client: "Client") -> None:
        about: dict[str, Any] = {"display_name": display_name, "namespaces": namespace, "weight": weight}
        about["egress"] = [{"cidr": each} for each in allow] if allow else None
        quota = {
            "pods": pods,
            "cpu_millis": None if cpus is None else round(cpus * 1000),
            "memory_bytes": None if memory_gib is None else round(memory_gib * 2**30),
        }
        about["pod_quota"] = {field: value for field, value in quota.items() if value is not None} or None
        about["limits"] = None if active is None else {"max_active_jobs": active}
        view = await client.put_tenant(name, {field: value for field, value in about.items() if value is not None})
        if key is not None:
            write_token(key, (await client.create_key(name, {}))["token"])
        if as_json:
            show_json(view)
        else:
            say(f"{name} is known; its namespaces are {', '.join(view['namespaces'])}")

    ask(work)


@tenant.command()
def show(name: Name, *, as_json: AsJson = False) -> None:
    """Show a tenant, its limits and how its walls stand in each cluster."""

    async def work(client: "Client") -> None:
        view = await client.tenant(name)
        if as_json:
            show_json(view)
            return
        say(f"{name}: {'being deleted' if view['closing'] else 'active'}, weight {view['weight']:g}")
        say(f"  namespaces: {', '.join(view['namespaces'])}")
        say(f"  may reach: {', '.join(each['cidr'] for each in view['egress']) or 'no private address'}")
        for wall in view["walls"]:
            say(f"  walls in {wall['cluster']}: {'stand' if wall['stands'] else wall['why']}")

    ask(work)


@tenant.command("list")
def list_tenants(*, as_json: AsJson = False) -> None:
    """List the tenants."""

    async def work(client: "Client") -> None:
        told = await client.tenants()
        if as_json:
            show_json(told)
            return
        for view in told["tenants"]:
            say(f"{view['tenant']}{'  being deleted' if view['closing'] else ''}")

    ask(work)


@tenant.command()
def delete(
    name: Name,
    *,
    force: Annotated[bool, typer.Option("--force", help="also while jobs of it run: they are cancelled")] = False,
) -> None:
    """Delete a tenant with its jobs, objects, walls and credentials."""

    async def work(client: "Client") -> None:
        await client.delete_tenant(name, force=force)
        say(f"{name} is being deleted: nobody comes in for it any more")

    ask(work)
