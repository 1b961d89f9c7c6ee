"""Who is who on the bus: made and cut from a directory of keys, without a server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.output import say

if TYPE_CHECKING:
    from shared.credential import Credential

identity = typer.Typer(
    help="Keys and credentials of the bus.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Directory = Annotated[
    Path | None, typer.Option("--identity", help="the directory of keys; default: that of `overspill up`")
]
Out = Annotated[Path | None, typer.Option(help="write it here, readable by you alone; default: print it")]


def _directory(given: Path | None) -> Path:
    from overspill.configuration import default_data

    return given or default_data(os.environ) / "identity"


def _give(credential: "Credential", out: Path | None) -> None:
    text = credential.to_file_text()
    if out is None:
        say(text.rstrip("\n"))
        return
    out.unlink(missing_ok=True)
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    say(str(out))


@identity.command()
def create(directory: Directory = None) -> None:
    """Make the keys of a new bus; what is there is kept."""
    from shared.adapters.identity import Identity

    say(str(Identity.create(_directory(directory)).directory))


@identity.command()
def service(
    tenant: Annotated[str, typer.Argument(help="whose service it is")] = "default",
    *,
    directory: Directory = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="until it expires; default: never")] = None,
    out: Out = None,
) -> None:
    """Cut a credential with which a service of the tenant submits jobs and follows them."""
    from shared.adapters.identity import Identity
    from shared.parties import service_party

    seconds = days * 86_400 if days is not None else None
    keys = Identity.load(_directory(directory))
    _give(keys.credential(service_party(tenant), tenant=tenant, expires_seconds=seconds), out)


@identity.command()
def hub(
    service: Annotated[str, typer.Argument(help="gateway, scheduler, cluster-metrics, log-collector or cache")],
    *,
    directory: Directory = None,
    out: Out = None,
) -> None:
    """Cut the credential of one of the hub's own services, to run it in a process of its own."""
    from overspill.complaint import Complaint, Exit
    from shared.adapters.identity import Identity
    from shared.parties import HUB_PARTIES

    parties = {party.name: party for party in HUB_PARTIES}
    if service not in parties:
        raise Complaint(f"{service!r} is no service of the hub; take one of {', '.join(parties)}", Exit.USAGE)
    _give(Identity.load(_directory(directory)).credential(parties[service]), out)


@identity.command()
def config(
    *,
    directory: Directory = None,
    store: Annotated[Path, typer.Option(help="where the server keeps streams and accounts")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="address of the bus")] = "127.0.0.1:4222",
    sync: Annotated[str, typer.Option(metavar="always|DURATION", help="as of `overspill up`")] = "1s",
) -> None:
    """Print the configuration of a nats-server for this identity; it holds no secret."""
    from overspill.complaint import Complaint, Exit
    from shared.adapters.identity import Identity
    from shared.adapters.nats_config import read_sync, server_config

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise Complaint(f"--listen {listen!r} is no address; give host:port", Exit.USAGE)
    try:
        interval = read_sync(sync)
    except ValueError as error:
        raise Complaint(f"--sync {sync!r}: {error}", Exit.USAGE) from error
    keys = Identity.load(_directory(directory))
    text = server_config(keys, store.absolute(), host=host, port=int(port), sync_interval_seconds=interval)
    say(text.rstrip("\n"))
