"""The platform itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.asking import ask
from overspill.cli.options import AsJson
from overspill.cli.output import can_unicode, console, note, show_json
from overspill.complaint import Exit

if TYPE_CHECKING:
    from overspill.client import Client


def up(
    *,
    data: Annotated[
        Path | None, typer.Option(help="where everything is kept", show_default="~/.local/share/overspill")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="address of the API; port 0: one of its own")
    ] = "127.0.0.1:0",
    nats_url: Annotated[
        str | None, typer.Option(help="use this bus, which runs with the configuration of --identity")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="identity directory of the bus at --nats-url")] = None,
    s3_url: Annotated[str | None, typer.Option(help="use this object store")] = None,
    s3_credentials: Annotated[
        Path | None, typer.Option(help="file of two lines: access key id, secret access key")
    ] = None,
    sync: Annotated[
        str,
        typer.Option(
            metavar="always|DURATION",
            envvar="OVERSPILL_BUS_SYNC",
            help="how long what was acknowledged may be lost with the machine's power; always: not at all",
        ),
    ] = "1s",
    bus_store: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            envvar="OVERSPILL_BUS_STORE",
            help="what the bus may store",
            show_default="10Gi, at most half of the disk",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the whole platform on this machine; Ctrl-C ends it."""
    from overspill.up import up_command

    up_command(
        data=data,
        nats_url=nats_url,
        identity=identity,
        s3_url=s3_url,
        s3_credentials=s3_credentials,
        listen=listen,
        sync=sync,
        store_size=bus_store,
        as_json=as_json,
    )


def status(*, as_json: AsJson = False) -> None:
    """Tell whether the platform is well, and how stable, fast, costly and safe it is; exit code 1 when it isn't."""

    async def work(client: "Client") -> int:
        told = await client.status()
        if as_json:
            show_json(told)
        else:
            import time

            from overspill.view.status import status_lines

            screen = console()
            for line in status_lines(told, time.time(), unicode=can_unicode()):
                screen.print(line, soft_wrap=True)
        return Exit.SUCCEEDED if told["healthy"] else Exit.FAILED

    ask(work)


def dlq(
    *,
    service: Annotated[str | None, typer.Option(help="who buried it: gateway, scheduler, …")] = None,
    sender: Annotated[str | None, typer.Option(help="tenant or cluster it came from")] = None,
    before: Annotated[int | None, typer.Option(help="the next page, as the one before named it")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: AsJson = False,
) -> None:
    """List messages that nobody could handle, newest first, with why; for operators."""
    asked = {"service": service, "sender": sender, "before": before, "limit": limit}
    query: dict[str, str | int] = {key: value for key, value in asked.items() if value is not None}

    async def work(client: "Client") -> None:
        page = await client.buried(query)
        if as_json:
            show_json(page)
            return
        import time

        from overspill.view.tables import buried_table

        console().print(buried_table(page["buried"], time.time()))
        if page["next_before"]:
            note(f"more: --before {page['next_before']}")

    ask(work)
