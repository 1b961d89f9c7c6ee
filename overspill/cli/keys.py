"""API keys of tenants, for operators."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.asking import ask
from overspill.cli.options import AsJson
from overspill.cli.output import say, show_json

if TYPE_CHECKING:
    from overspill.client import Client

key = typer.Typer(help="API keys of a tenant.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Tenant = Annotated[str, typer.Argument(help="the tenant's name", show_default=False)]


@key.command()
def create(
    tenant: Tenant,
    *,
    name: Annotated[str, typer.Option(help="for people")] = "",
    role: Annotated[str, typer.Option(help="reader, submitter, admin or operator")] = "submitter",
    days: Annotated[float | None, typer.Option(min=0.001, help="until it expires; default: never")] = None,
    out: Annotated[Path | None, typer.Option(help="write it here, readable by you alone; default: print it")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key; its token is shown this once."""
    seconds = None if days is None else days * 86_400

    async def work(client: "Client") -> None:
        made = await client.create_key(tenant, {"name": name, "role": role, "expires_seconds": seconds})
        if out is not None:
            write_token(out, made.pop("token"))
        if as_json:
            show_json(made)
        else:
            say(str(out or made["token"]))

    ask(work)


def write_token(file: Path, token: str) -> None:
    """Readable by its owner alone."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(f"{token}\n")


@key.command("list")
def list_keys(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """List a tenant's API keys, without their tokens."""

    async def work(client: "Client") -> None:
        told = await client.keys(tenant)
        if as_json:
            show_json(told)
            return
        for each in told["keys"]:
            say(f"{each['id']}  {each['role']}  {each['name']}  until {each['expires'] or 'revoked'}")

    ask(work)


@key.command()
def revoke(tenant: Tenant, key_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)]) -> None:
    """Withdraw an API key: it opens nothing any more."""

    async def work(client: "Client") -> None:
        await client.revoke_key(tenant, key_id)
        say(f"{key_id} is revoked")

    ask(work)
