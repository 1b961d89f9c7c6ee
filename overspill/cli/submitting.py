"""From a spec to a job."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overspill.cli.asking import ask
from overspill.cli.options import AsJson
from overspill.cli.output import can_unicode, drop_output, is_terminal, note, say, show_json
from overspill.cli.specs import SpecFile, read_file
from overspill.complaint import Exit

if TYPE_CHECKING:
    from overspill.client import Client, Json
    from overspill.configuration import Server
    from overspill.running import Build
    from shared.spec import JobSpec


def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="default: build.yaml here or above", show_default=False)
    ] = None,
    *,
    no_source: Annotated[bool, typer.Option("--no-source", help="don't send the working tree along")] = False,
    name: Annotated[str | None, typer.Option(help="another name for the job")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="environment of every step")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="for people and filters")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="print the job's id and return")] = False,
    as_json: AsJson = False,
) -> None:
    """Build the working tree: pack, upload, submit, follow; the exit code is the job's."""
    import asyncio

    from overspill.configuration import find_server
    from overspill.running import Wishes, find

    wishes = Wishes(name, _pairs(env, "--env"), _pairs(label, "--label"))
    build = find(file, Path.cwd(), wishes)
    how = _How(sends_source=not no_source, detaches=detach, as_json=as_json)
    try:
        code = asyncio.run(how.run(build, find_server(os.environ)))
    except BrokenPipeError:
        # The verdict is not known, so the code must not be one.
        drop_output()
        code = Exit.PLATFORM
    raise typer.Exit(code)


class _How:
    def __init__(self, *, sends_source: bool, detaches: bool, as_json: bool) -> None:
        self._sends_source, self._detaches, self._as_json = sends_source, detaches, as_json

    async def run(self, build: "Build", server: "Server | None") -> int:
        if server is not None:
            return await self._with(server, build)
        from overspill.alone import platform_for_us
        from overspill.complaint import Complaint

        if self._detaches:
            raise Complaint("--detach needs a server that stays: start one with `overspill up`", Exit.USAGE)
        note("no server is configured: starting the platform for this job alone")
        async with platform_for_us(os.environ) as own:
            return await self._with(own, build)

    async def _with(self, server: "Server", build: "Build") -> int:
        from overspill.client import Client
        from overspill.running import submit, with_source

        async with Client(server) as client:
            spec = build.spec
            if self._sends_source:
                spec, packed = await with_source(client, build)
                if not self._as_json:
                    note(f"source: {packed.files} files, {_size(packed.size_bytes)} packed")
            job = await submit(client, spec)
            if self._detaches:
                show_json(job) if self._as_json else say(job["id"])
                return 0
            return await self._follow(client, job, spec)

    async def _follow(self, client: "Client", job: "Json", spec: "JobSpec") -> int:
        from overspill.running import background_steps
        from overspill.view.screen import opening
        from overspill.view.timeline import split
        from overspill.watching import JsonLines, Lines, Terminal, watch

        screen = opening(job, background_steps(spec))
        if self._as_json:
            return await watch(client, job["id"], JsonLines(screen))
        if is_terminal():
            terminal = Terminal(screen)
            terminal.start()
            code = await watch(client, job["id"], terminal)
        else:
            code = await watch(client, job["id"], Lines(screen, unicode=can_unicode()))
        ended = await client.job(job["id"])
        say(split(ended["times"]))
        for artifact in ended["artifacts"]:
            say(f"artifact {artifact['name']}: {artifact['files']} files, {_size(artifact['size_bytes'])}")
        short = job["id"][:8]
        say(f"job {job['id']}: `overspill show {short}`, `overspill logs {short}`")
        return code


def submit(
    file: SpecFile,
    *,
    key: Annotated[
        str | None, typer.Option(help="idempotency key: told twice with the same one, it makes one job")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a spec as it is and print the job's id; nothing is packed or followed."""
    from overspill.running import submit as submit_spec
    from shared.spec_reading import read_spec

    spec = read_spec(read_file(file))

    async def work(client: "Client") -> None:
        job = await submit_spec(client, spec, key)
        show_json(job) if as_json else say(job["id"])

    ask(work)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    from overspill.complaint import Complaint

    pairs = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise Complaint(f"{option} {text!r}: give KEY=VALUE", Exit.USAGE)
        pairs[key] = value
    return pairs


def _size(count_bytes: int) -> str:
    from overspill.view.words import size

    return size(count_bytes)
