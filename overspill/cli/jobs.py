"""Looking at jobs, and ending them."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overspill.cli.asking import ask, job_id
from overspill.cli.options import AsJson, LastJob
from overspill.cli.output import can_unicode, console, note, say, show_json

if TYPE_CHECKING:
    from overspill.client import Client


def jobs(
    *,
    state: Annotated[list[str] | None, typer.Option(help="queued, placed, succeeded, failed, …; may repeat")] = None,
    name: Annotated[str | None, typer.Option(help="exactly this name")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="may repeat: all of them")] = None,
    since: Annotated[
        str | None, typer.Option(help="created at or after: 2026-01-31T12:00:00Z, or unix seconds")
    ] = None,
    until: Annotated[str | None, typer.Option(help="created before")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="the next page, as the one before named it")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    asked = {"state": state, "name": name, "label": label, "since": since, "until": until, "cursor": cursor}
    query: dict[str, str | int | list[str]] = {"limit": limit, **{key: value for key, value in asked.items() if value}}

    async def work(client: "Client") -> None:
        page = await client.jobs(query)
        if as_json:
            show_json(page)
            return
        from overspill.view.tables import jobs_table

        console().print(jobs_table(page["jobs"], time.time(), unicode=can_unicode()))
        if page["next_cursor"]:
            note(f"more: --cursor {page['next_cursor']}")

    ask(work)


def show(job: LastJob = "last", *, as_json: AsJson = False) -> None:
    """Show a job: state, steps, timeline, system time and user time, outputs, artifacts."""

    async def work(client: "Client") -> None:
        found = await job_id(client, job)
        view = await client.job(found)
        summaries = await client.of_job(found, "summary")
        if as_json:
            show_json({**view, "summaries": summaries})
            return
        _draw(view, summaries)

    ask(work)


def _draw(view: dict[str, Any], summaries: list[dict[str, Any]]) -> None:
    from rich.markdown import Markdown
    from rich.text import Text

    from overspill.view.jobs import facts, head, outputs, problems
    from overspill.view.timeline import bars, draw, split
    from overspill.view.words import STYLES, harmless

    out, unicode = console(), can_unicode()
    out.print(Text(head(view, unicode=unicode), style=STYLES.get(view["state"], "")))
    for line in facts(view):
        out.print(Text(line, style="dim"))
    out.print()
    for state, line in draw(bars(view, time.time()), min(out.width, 120), unicode=unicode):
        out.print(Text(line, style="dim" if state == "system" else STYLES.get(state, "")))
    out.print(Text(split(view["times"])))
    for line in problems(view):
        out.print(Text(line, style=STYLES["failed"]))
    for line in outputs(view):
        out.print(Text(line))
    for summary in summaries:
        out.print()
        out.print(Markdown(harmless(summary["markdown"])), width=min(out.width, 100))


def cancel(job: LastJob = "last", *, as_json: AsJson = False) -> None:
    """Ask for a job's end; asking twice changes nothing."""

    async def work(client: "Client") -> None:
        view = await client.cancel(await job_id(client, job))
        if as_json:
            show_json(view)
        elif view["ended"]:
            say(f"{view['id']} had ended before: {view['state']}")
        else:
            say(f"{view['id']} is being cancelled")

    ask(work)


def delete(
    job: Annotated[str, typer.Argument(help="id, an unambiguous beginning of it, or last", show_default=False)],
    *,
    cancel: Annotated[bool, typer.Option("--cancel", help="if it is live, cancel it first")] = False,
) -> None:
    """Delete an ended job with its history, log and artifacts."""

    async def work(client: "Client") -> None:
        found = await job_id(client, job)
        if await client.delete(found, cancel=cancel):
            say(f"{found} is deleted")
        else:
            say(f"{found} is being cancelled, and deleted when it has ended")

    ask(work)


def why(job: LastJob = "last", *, as_json: AsJson = False) -> None:
    """Say what a job waits for, or why it ended."""

    async def work(client: "Client") -> None:
        told = await client.of_job(await job_id(client, job), "why")
        if as_json:
            show_json(told)
            return
        position = f"; {told['position']} jobs go before it" if told.get("position") else ""
        say(f"{told['state']}: {told['detail']}{position}")
        for machine, reason in sorted(told.get("candidates", {}).items()):
            say(f"  {machine}: {reason}")

    ask(work)
