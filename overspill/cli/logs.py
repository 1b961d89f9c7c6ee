"""What steps wrote, and what happened."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.asking import ask, job_id
from overspill.cli.options import AsJson, LastJob
from overspill.cli.output import say, show_json_line

if TYPE_CHECKING:
    from overspill.client import Client

Follow = Annotated[bool, typer.Option("--follow", "-f", help="until the job is over")]


def logs(
    job: LastJob = "last",
    *,
    follow: Follow = False,
    step: Annotated[str | None, typer.Option(help="number or name of a step; 0 is the platform's own log")] = None,
    since: Annotated[str | None, typer.Option(help="2026-01-31T12:00:00Z, unix seconds, or 90s, 10m ago")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="each line with the time it came")] = False,
    epoch: Annotated[int | None, typer.Option(min=1, help="of an earlier attempt")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's log, byte for byte; all steps in their order, or one."""

    async def work(client: "Client") -> None:
        from overspill.logging_out import Asked, follow_log, print_log, step_number

        found = await job_id(client, job)
        number = await step_number(client, found, step) if step is not None else None
        asked = Asked(found, number, since, epoch, stamps=timestamps, as_json=as_json, safe=sys.stdout.isatty())
        # What is asked for as JSON comes in pieces with their place, as following tells them.
        await (follow_log if follow or as_json else print_log)(client, asked)

    ask(work)


def events(job: LastJob = "last", *, follow: Follow = False, as_json: AsJson = False) -> None:
    """List what happened to a job."""

    async def work(client: "Client") -> None:
        from overspill.following import facts, past_facts
        from overspill.view.jobs import event_line

        found = await job_id(client, job)
        async for told in (facts if follow else past_facts)(client, found):
            if as_json:
                show_json_line(told.view)
            else:
                say(event_line(told.view))
                sys.stdout.flush()

    ask(work)
