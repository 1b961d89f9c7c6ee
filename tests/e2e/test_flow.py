"""`shared.flow` against what really crosses the bus: a spy in the hub's account listens while jobs come and go."""

import asyncio
import json
from pathlib import Path

from shared import flow
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.parties import HUB_PARTIES, Party, attempt_party, machine_party, service_party
from tests.e2e.platform import Platform

SPY = Party("spy", "hub", publishes=(), subscribes=(">",), why="sees what crosses the hub's account")
SERVERS_OWN = ("$", "_INBOX", "_R_", "feed.", "desired.", "tail.", "logs.")
"""The server's API, answers, and what the server republishes by itself."""

COUNTING = {"gateway", "cluster-metrics"}
ANY = "any-of-them"
ONLY_WHEN_THINGS_BREAK = {"dlq.*", "evt.*.*.*.attempt-ended"}
"""Burying, and the scheduler ending an attempt whose machine is lost: their own tests see them."""


def matches(pattern: str, subject: str) -> bool:
    wanted, told = pattern.split("."), subject.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(told) > at
        if at >= len(told) or token not in ("*", told[at]):
            return False
    return len(wanted) == len(told)


def test_a_pattern_matches_as_the_bus_matches() -> None:
    assert matches("a.*.c", "a.b.c")
    assert matches("a.>", "a.b.c")
    assert not matches("a.*", "a.b.c")
    assert not matches("a.>", "a")


async def test_what_is_declared_crosses_the_bus_and_nothing_else_does(tmp_path: Path) -> None:
    often = {"OVERSPILL_GATEWAY_TELL_REFUSALS_SECONDS": "0.1", "OVERSPILL_CLUSTER_METRICS_COUNT_SECONDS": "1"}
    platform = Platform(tmp_path, tmp_path / "data", settings=often)
    platform.start()
    seen: set[str] = set()
    counted = asyncio.Event()
    try:
        identity = Identity.load(platform.data / "identity")
        async with (
            NatsBus.connect(platform.ready["nats_url"], identity.credential(SPY), name="spy") as bus,
            bus.listen(">") as messages,
        ):

            async def spy() -> None:
                async for message in messages:
                    seen.add(message.subject)
                    if {subject.split(".")[1] for subject in seen if subject.startswith("figures.")} == COUNTING:
                        counted.set()

            listening = asyncio.create_task(spy())
            await asyncio.to_thread(everything_a_tenant_does, platform)
            await a_service_submits_nonsense(platform, identity)
            async with asyncio.timeout(30):
                await counted.wait()
            async with asyncio.timeout(60):
                # The last thing that is said of a deleted job.
                while not {"svc.cache.forget", "svc.log-collector.forget"} <= seen:
                    await asyncio.sleep(0.05)
            listening.cancel()
    finally:
        platform.end()
    declared = declared_publishes()
    copies = flow.RecordCopy.filter()
    own = {subject for subject in seen if not subject.startswith(SERVERS_OWN) and not matches(copies, subject)}
    assert not {subject for subject in own if not any(matches(pattern, subject) for pattern in declared)}
    unused = {pattern for pattern in declared if not any(matches(pattern, subject) for subject in own)}
    assert {pattern for pattern in unused if not pattern.startswith("dlq.")} <= ONLY_WHEN_THINGS_BREAK
    violations = [
        line for line in (platform.data / "logs/nats-server.log").read_text().splitlines() if "iolation" in line
    ]
    assert not violations


def declared_publishes() -> set[str]:
    edges = (machine_party("local", ANY), attempt_party("default", ANY, 1), service_party("default"))
    return {pattern.replace(ANY, "*") for party in (*HUB_PARTIES, *edges) for pattern in party.publishes}


def everything_a_tenant_does(platform: Platform) -> None:
    tree = platform.spec("artifacts: [{name: a, paths: [out]}]\nsteps: [{run: 'echo hello | tee out'}]")
    assert platform.run("run", cwd=tree).code == 0
    assert platform.run("artifacts", "last", "--download", str(tree / "got")).code == 0
    assert platform.run("status").code == 0
    assert "hello" in platform.run("logs", "last").out
    waiting = platform.spec("steps: [{image: none, run: 'true'}]")
    job = platform.run("submit", "build.yaml", cwd=waiting).out.strip()
    assert platform.run("why", job).code == 0
    assert platform.run("cancel", job).code == 0
    assert platform.run("clusters").code == 0
    assert "is deleted" in platform.run("delete", "last").out


async def a_service_submits_nonsense(platform: Platform, identity: Identity) -> None:
    credential = identity.credential(service_party("default"), tenant="default")
    headers = {"ce-id": "1", "ce-source": "/test", "ce-type": "overspill.job.submitted.v1"}
    async with (
        NatsBus.connect(platform.ready["nats_url"], credential, name="service") as bus,
        bus.listen("feed.default.>") as feed,
    ):
        await bus.publish(flow.Submit("default"), json.dumps({"spec": {"stepz": []}}).encode(), headers=headers)
        async with asyncio.timeout(20):
            async for message in feed:
                if message.subject.endswith("submission-refused"):
                    return
