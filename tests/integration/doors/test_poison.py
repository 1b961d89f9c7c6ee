"""A fuzzer on every subject that somebody writes. Nobody stops, nothing fails unheard, and no piece disappears: it is
taken, refused to its sender, or in the DLQ with why.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import structlog.testing

from shared.adapters.nats_bus import ERROR, NatsBus
from shared.burying import SUBJECT, WHY
from shared.bus import Message
from shared.errors import Poison
from shared.facts.log import LogChunk
from shared.flow import CLUSTERS, EVT, SUBMIT, TENANTS, Evt, LogAt
from shared.ids import random_id
from shared.parties import HUB_PARTIES, attempt_party, machine_party, service_party
from shared.requests import Refusal
from shared.tenancy import ClusterRecord, TenantRecord
from shared.wire import decode, encode
from tests.e2e.test_flow import matches
from tests.integration.doors.hub import Hub
from tests.integration.doors.poison import Piece, pieces, spoiled
from tests.integration.doors.targets import CLUSTER, MACHINE, Target, targets, writable
from tests.integration.gateway.conftest import eventually

LIMIT_SECONDS = 60
LOG_TOKENS = ("tenant", "job", "epoch", "step")
PIECES = 24
SAID_ON_PURPOSE = {
    "bucket_value_unreadable",
    "record_unreadable",
    "record_ignored",
    "order_ignored",
    "tenant_record_ignored",
    "cluster_record_ignored",
    "log_differs_from_what_was_sent",
}
"""What services say at level error about an operator's or each other's garbage, in words of their own."""


def test_the_fuzzer_knows_every_subject_that_is_written() -> None:
    known = targets("t", "j")
    parties = {
        "service": (service_party("t"),),
        "attempt": (attempt_party("t", "j", 1),),
        "machine": (machine_party(CLUSTER, MACHINE),),
        "hub": HUB_PARTIES,
    }
    for sender, theirs in parties.items():
        subjects = [target.subject for target in known if target.sender == sender]
        missed = {each for each in writable(theirs) if not any(matches(each, subject) for subject in subjects)}
        assert not missed, f"{sender} may write {missed}, and no poison is tried there: add it to targets.py"
    # With two wildcards a pattern says little: each op an edge or an attempt may ask, by name.
    asked = {target.subject.rsplit(".", 1)[1] for target in known if target.asks}
    assert asked >= {"urls", "durable", "desired", "orders", "grant"}


@dataclass
class Watch:
    """All that is buried and refused while the fuzzer is at it."""

    buried: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def take(self, message: Message) -> None:
        if message.subject.startswith("dlq."):
            assert message.headers[WHY], message
            self.buried[message.headers[SUBJECT]] += 1
        else:
            self.refused += 1

    async def count(self, subject: str) -> int:
        """Buried of it; LOG stores chunks with their partition in the subject."""
        if not subject.startswith("log."):
            return self.buried[subject]
        stored = LogAt.filter(**dict(zip(LOG_TOKENS, subject.split(".")[1:], strict=True)))
        return sum(count for told, count in self.buried.items() if matches(stored, told))

    async def until_buried(self, subject: str, least: int, pieces: list[Piece]) -> None:
        try:
            await eventually(lambda: self.count(subject), lambda count: count >= least, LIMIT_SECONDS)
        except TimeoutError:
            told = "\n".join(str(piece) for piece in pieces)
            raise AssertionError(f"{await self.count(subject)} of {least} at {subject}:\n{told}") from None


@asynccontextmanager
async def watching(hub: Hub, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Watch]:
    watch = Watch()
    caplog.set_level(logging.ERROR)
    with structlog.testing.capture_logs() as said:
        async with hub.spy.listen("dlq.>", Evt.filter(kind="submission-refused")) as messages:

            async def listen() -> None:
                async for message in messages:
                    watch.take(message)

            listening = asyncio.create_task(listen())
            yield watch
            listening.cancel()
    failures = [
        entry
        for entry in said
        if entry.get("exc_info") or (entry["log_level"] == "error" and entry["event"] not in SAID_ON_PURPOSE)
    ]
    assert not failures, failures[:3]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text[:3000]


async def send(bus: NatsBus, subject: str, piece: Piece, more: bytes = b"") -> Message | None:
    """Byte for byte, as no client library would; the answer, None when the server gave none in time."""
    inbox = bus.new_inbox()
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in piece.headers) + more
    head = b"NATS/1.0\r\n" + lines + b"\r\n"
    frame = b"HPUB %s %s %d %d\r\n" % (subject.encode(), inbox.encode(), len(head), len(head) + len(piece.data))
    async with bus.listen(inbox) as answers:
        await bus.client._send_command(frame + head + piece.data + b"\r\n")
        await bus.client._flush_pending()
        try:
            async with asyncio.timeout(6):
                return await anext(answers)
        except TimeoutError:
            return None


async def stored(bus: NatsBus, subject: str, piece: Piece, more: bytes = b"") -> bool:
    """False: the server itself refused it, or knew it already."""
    answer = await send(bus, subject, piece, more)
    assert answer is not None, f"{subject} answered nothing to {piece}"
    if not answer.data:
        return False
    told = orjson.loads(answer.data)
    return "error" not in told and not told.get("duplicate", False)


async def parties(hub: Hub, tenant: str, job: str) -> dict[str, NatsBus]:
    return {
        "service": await hub.connect(service_party(tenant), tenant=tenant),
        "attempt": await hub.connect(attempt_party(tenant, job, 1), tenant=tenant),
        "machine": await hub.connect(machine_party(CLUSTER, MACHINE), cluster=CLUSTER),
        "hub": hub.spy,
    }


def is_poison(target: Target, piece: Piece) -> bool:
    """By the words of shared/, what must have been buried."""
    headers = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in piece.headers}
    try:
        if target.subject.startswith("log."):
            return LogChunk.read(headers, piece.data).offset > 10**12
        if target.model is None:
            return False
        fact = decode(target.model, piece.data)
    except Poison:
        return True
    return any(getattr(fact, name) != value for name, value in target.mine.items())


async def test_no_fact_log_or_beat_stops_anybody_and_all_poison_is_buried_with_why(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    tenant, job = await hub.new_tenant(), random_id()
    bus = await parties(hub, tenant, job)
    async with watching(hub, caplog) as watch:
        outside = [each for each in targets(tenant, job) if each.sender in ("attempt", "machine")]
        for target in [each for each in outside if not each.asks]:
            wanted = []
            for piece in pieces(target.subject.split(".", 3)[-1], target.valid, target.headers, PIECES):
                if target.subject.startswith("hb."):
                    await bus[target.sender].client._send_command(beat_frame(target.subject, piece))
                    known = is_poison(target, piece)
                else:
                    known = await stored(bus[target.sender], target.subject, piece) and is_poison(target, piece)
                wanted += [piece] if known else []
            # Beats are not stored: one that comes again is not buried again.
            least = len({piece.data for piece in wanted}) if target.subject.startswith("hb.") else len(wanted)
            await watch.until_buried(target.subject, least, wanted)
            hub.check_alive()
        await hub.run_job(tenant)


def beat_frame(subject: str, piece: Piece) -> bytes:
    head = b"NATS/1.0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in piece.headers) + b"\r\n"
    sizes = (len(head), len(head) + len(piece.data))
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (subject.encode(), *sizes, head, piece.data)


async def test_every_submission_is_taken_refused_with_a_reason_or_buried_with_why(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = await hub.new_tenant()
    bus = await parties(hub, tenant, "none")
    async with watching(hub, caplog) as watch:
        sent: list[Piece] = []
        for target in [each for each in targets(tenant, "none") if each.sender == "service"]:
            name = target.headers[1][1].decode()
            for number, piece in enumerate(pieces(name, target.valid, target.headers, 3 * PIECES)):
                own = b"ce-id: %s-%d\r\n" % (name.encode(), number)
                if await stored(bus["service"], target.subject, piece, own):
                    sent.append(piece)

        async def accounted() -> int:
            page = (await hub.ask("GET", "/v1/jobs?limit=200", tenant)).json()
            return len(page["jobs"]) + watch.refused + watch.buried[f"submit.{tenant}"]

        try:
            await eventually(accounted, lambda count: count >= len(sent), LIMIT_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{await accounted()} of {len(sent)} are told of") from None
        await eventually(lambda: hub.spy.last(SUBMIT, f"submit.{tenant}"), lambda found: found is None, LIMIT_SECONDS)
        assert watch.refused > 5
        assert watch.buried[f"submit.{tenant}"] > 5
        hub.check_alive()
        await hub.run_job(tenant)


async def test_every_question_is_answered_and_none_with_a_failure(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    bus = await parties(hub, tenant, job)
    async with watching(hub, caplog):
        for target in [each for each in targets(tenant, job) if each.asks]:
            for piece in pieces(target.subject, target.valid, target.headers, PIECES):
                answer = await send(bus[target.sender], target.subject, piece)
                assert answer is not None, f"{target.subject} did not answer {piece}"
                if ERROR in answer.headers:
                    refusal = decode(Refusal, answer.data)
                    assert refusal.code != "internal", f"{target.subject}: {refusal} to {piece}"
                    assert refusal.detail, piece
        hub.check_alive()
        await hub.run_job(tenant)


async def test_what_hub_services_tell_each_other_stops_none_of_them(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    tenant, job = await hub.new_tenant(), random_id()
    bus = await parties(hub, tenant, job)
    async with watching(hub, caplog) as watch:
        for target in [each for each in targets(tenant, job) if not each.asks and each.sender == "hub"]:
            for piece in pieces(target.subject, target.valid, target.headers, PIECES):
                await stored(bus["hub"], target.subject, piece)
            await hub.run_job(tenant)
            hub.check_alive()
        assert watch.buried
    # What stands there now is also what they meet when they start.
    for name in ("gateway", "scheduler", "metrics", "cache", "logs"):
        await hub.stop(name)
    await hub.start_others()
    await hub.start_scheduler()
    await hub.start_gateway("anew")
    await hub.run_job(tenant)
    assert (await hub.ask("GET", "/v1/clusters", tenant)).status_code == 200


async def test_records_written_by_hand_stop_nobody_and_lock_nobody_out(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    import random

    tenant, fuzzed = await hub.new_tenant(), await hub.new_tenant()
    good = await hub.spy.bucket(TENANTS).get(fuzzed)
    assert good is not None
    cluster = ClusterRecord(cluster="c-hand", bus_urls=["nats://127.0.0.1:1"])
    chance = random.Random("records")
    async with watching(hub, caplog):
        for bucket, key, valid in (
            (TENANTS, fuzzed, orjson.loads(good.value)),
            (CLUSTERS, "c-hand", orjson.loads(encode(cluster))),
        ):
            for _ in range(2 * PIECES):
                data = chance.choice((spoiled(chance, valid), b"\xff", b"", b"[]", b"{"))
                await hub.spy.bucket(bucket).put(key, data)
        await hub.run_job(tenant)
        # Another tenant's record under this key: its API keys must not open this tenant's door.
        other = TenantRecord(tenant=tenant)
        await hub.spy.bucket(TENANTS).put(fuzzed, encode(other))
        await hub.spy.bucket(TENANTS).put(fuzzed, good.value)
        await eventually(lambda: hub.ask("GET", "/v1/me", fuzzed), lambda answer: answer.status_code == 200)
        await hub.run_job(fuzzed)
        hub.check_alive()


async def test_one_senders_flood_does_not_push_out_what_others_buried(hub: Hub) -> None:
    quiet, loud = await hub.new_tenant(), await hub.new_tenant()
    services = [await hub.connect(service_party(tenant), tenant=tenant) for tenant in (quiet, loud)]
    await services[0].publish(f"submit.{quiet}", b"quiet")
    for first in range(0, 400, 100):
        await asyncio.gather(*(services[1].publish(f"submit.{loud}", b"%d" % n) for n in range(first, first + 100)))

    async def page(sender: str) -> Any:
        return (await hub.ask("GET", f"/v1/dlq?sender={sender}&limit=200", quiet)).json()

    flooded = await eventually(
        lambda: page(loud), lambda told: "399" in {each["beginning"] for each in told["buried"][:100]}, LIMIT_SECONDS
    )
    assert len(flooded["buried"]) == 200
    rest = (await hub.ask("GET", f"/v1/dlq?sender={loud}&limit=200&before={flooded['next_before']}", quiet)).json()
    assert len(rest["buried"]) == 56
    assert rest["next_before"] is None
    [kept] = (await page(quiet))["buried"]
    assert (kept["beginning"], kept["subject"], kept["service"]) == ("quiet", f"submit.{quiet}", "gateway")
    assert "ce-type" in kept["why"]
    assert await hub.spy.last(EVT, f"evt.{loud}.>") is None
