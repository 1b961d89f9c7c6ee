"""What jobs leave behind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.asking import ask, job_id
from overspill.cli.options import AsJson, LastJob
from overspill.cli.output import console, say, show_json

if TYPE_CHECKING:
    from overspill.client import Client


def artifacts(
    job: LastJob = "last",
    name: Annotated[str | None, typer.Argument(help="only this one", show_default=False)] = None,
    *,
    download: Annotated[Path | None, typer.Option(metavar="DIR", help="fetch them into this directory")] = None,
    as_json: AsJson = False,
) -> None:
    """List a job's artifacts, or download them (each a .tar.gz)."""

    async def work(client: "Client") -> None:
        from overspill.fetching import fetch
        from overspill.view.tables import artifacts_table

        found = await job_id(client, job)
        kept = [entry for entry in await client.of_job(found, "artifacts") if name in (None, entry["name"])]
        if name is not None and not kept:
            from overspill.complaint import NoSuch

            raise NoSuch(f"{found} has no artifact {name!r}; see `overspill artifacts {found[:8]}`")
        if download is None:
            show_json(kept) if as_json else console().print(artifacts_table(kept))
            return
        files = [str(await fetch(client, found, entry, download)) for entry in kept]
        if as_json:
            show_json([{**entry, "file": file} for entry, file in zip(kept, files, strict=True)])
        else:
            for file in files:
                say(file)

    ask(work)
