"""What attempts, machines and tenants' services can't do to others, however they try."""

import asyncio
from itertools import product

import pytest

from shared.errors import Poison
from shared.facts import Order
from shared.flow import BUCKETS, EVT, LOG, STREAMS, Ask, Beat, DesiredAt, Edge, Evt, Job, LogTo, OrderTo, Submit
from shared.parties import CLUSTER_METRICS, GATEWAY, SCHEDULER, Party, attempt_party, machine_party, service_party
from shared.requests import DesiredTold
from shared.subject import Subject
from shared.wire import decode, encode
from tests.conftest import BusServer
from tests.integration.identity.attacker import WAIT_SECONDS, Attacker

AUDITOR = Party("auditor", "hub", publishes=("$JS.API.>", "$JS.FC.>"))


async def counts(server: BusServer) -> dict[str, int]:
    """How many messages were ever stored in each stream and bucket."""
    from shared.adapters.nats_api import api

    async with server.connect(server.identity.credential(AUDITOR)) as bus:
        names = [stream.name for stream in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]
        return {name: int((await api(bus, f"STREAM.INFO.{name}"))["state"]["last_seq"]) for name in names}


def attempt(server: BusServer, tenant: str, job: str = "mine", epoch: int = 1):
    return Attacker.at(server.url, server.identity.credential(attempt_party(tenant, job, epoch), tenant=tenant))


def machine(server: BusServer, cluster: str, name: str = "m1"):
    return Attacker.at(server.url, server.identity.credential(machine_party(cluster, name), cluster=cluster))


def service(server: BusServer, tenant: str):
    return Attacker.at(server.url, server.identity.credential(service_party(tenant), tenant=tenant))


async def test_an_attempt_tells_of_itself(bus_server) -> None:
    tenant = await bus_server.tenant()
    async with attempt(bus_server, tenant) as attacker:
        assert await attacker.may_publish(str(Evt(tenant, "mine", 1, "step-started")))
        assert await attacker.may_publish(str(LogTo(tenant, "mine", 1, 1)))


async def test_an_attempt_speaks_for_no_other_job_epoch_or_tenant(bus_server) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    async with attempt(bus_server, tenant) as attacker:
        for victim, job, epoch in ((tenant, "other", 1), (tenant, "mine", 2), (tenant, "mine", 0), (other, "mine", 1)):
            assert not await attacker.may_publish(str(Evt(victim, job, epoch, "step-started")))
            assert not await attacker.may_publish(str(LogTo(victim, job, epoch, 1)))
            assert not await attacker.may_publish(f"ask.{victim}.{job}.{epoch}.urls")


@pytest.mark.parametrize(
    "subject",
    [
        "job.{t}.mine",
        "spec.{t}.mine",
        "done.{t}.mine",
        "submit.{t}",
        "order.c1.m1.{t}.mine",
        "desired.c1.m1.{t}.mine",
        "feed.{t}.mine.1.step-started",
        "tail.{t}.mine.1.1",
        "logs.0.{t}.mine.1.1",
        "hb.c1.m1",
        "metrics.c1.summary",
        "edge.c1.m1.grant",
        "svc.cache.download",
        "dlq.cache",
        "$KV.LEASE.scheduler",
        "$JS.API.STREAM.DELETE.JOBS",
        "$JS.API.STREAM.MSG.GET.JOBS",
        "$JS.API.DIRECT.GET.JOBS.job.{t}.mine",
        "$JS.ACK.SUBMIT.gateway.1.1.1.1.0",
        "$SYS.REQ.CLAIMS.UPDATE",
        "_R_.x",
        "_INBOX_gateway.x",
    ],
)
async def test_an_attempt_publishes_nothing_else(bus_server, subject: str) -> None:
    async with attempt(bus_server, "t1") as attacker:
        assert not await attacker.may_publish(subject.format(t="t1"))


@pytest.mark.parametrize(
    "subject",
    [
        ">", "*", "feed.>", "feed.t1.>", "feed.t1.mine.>", "desired.>", "evt.>", "evt.t1.mine.1.*", "log.>", "tail.>",
        "desired.*.*.t1.*", "desired.*.*.t1.other", "desired.c1.m1.t1.>", "desired.*.*.*.mine", "order.>",
        "ask.>", "_INBOX.>", "_INBOX_attempt-other-1.>", "_INBOX_service-t1.>", "$JS.>", "$SYS.>", "$KV.>",
    ],
)  # fmt: skip
async def test_an_attempt_hears_nothing_but_its_answers(bus_server, subject: str) -> None:
    async with attempt(bus_server, "t1") as attacker:
        assert not await attacker.may_subscribe(subject)


async def test_an_attempt_hears_what_should_be_of_its_own_job_wherever_it_runs(bus_server, hub_bus) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    scheduler = await hub_bus(SCHEDULER)
    async with attempt(bus_server, tenant) as attacker:
        assert await attacker.may_subscribe(DesiredAt.filter(tenant=tenant, job="mine"))
        for whose, job in ((tenant, "other"), (other, "mine"), (tenant, "mine")):
            await scheduler.publish(OrderTo("c1", "kube", whose, job), b"{}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await attacker.heard.get() == (str(DesiredAt("c1", "kube", tenant, "mine")), b"{}")
        assert attacker.heard.empty()


async def test_an_attempts_account_hears_no_other_tenants_orders_even_with_every_permission(
    bus_server, hub_bus
) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    scheduler = await hub_bus(SCHEDULER)
    king = Party("king", "attempts", publishes=(">",), subscribes=(">",))
    async with Attacker.at(bus_server.url, bus_server.identity.credential(king, tenant=tenant)) as attacker:
        assert await attacker.may_subscribe("desired.>")
        await scheduler.publish(OrderTo("c1", "kube", other, "j"), b"{}")
        await scheduler.publish(OrderTo("c1", "kube", tenant, "j"), b"{}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await attacker.heard.get())[0] == str(DesiredAt("c1", "kube", tenant, "j"))
        assert attacker.heard.empty()
        before = await counts(bus_server)
        await attacker.may_publish(str(OrderTo("c1", "kube", tenant, "j")))
        await attacker.may_publish(str(DesiredAt("c1", "kube", other, "j")))
        assert await counts(bus_server) == before


async def test_no_answer_that_an_attempt_can_send_to_another_is_an_order(bus_server, hub_bus) -> None:
    """What is answered goes, within the account, wherever who asked wants it: to the ear of another attempt, say."""
    tenant = await bus_server.tenant()
    scheduler = await hub_bus(SCHEDULER)
    order = Order.model_validate(
        {
            "tenant": tenant, "job": "mine", "epoch": 1, "cluster": "c1", "target": "kube", "desired": "cancel",
            "needs": {"cpu_millis": 1, "memory_bytes": 1, "disk_bytes": 1}, "on_lost": "rerun", "fence_seconds": 60,
            "timeout_seconds": 60, "term": 9,
        }
    )  # fmt: skip

    async def answer(_):
        return encode(DesiredTold(order=order)), {}

    async with (
        attempt(bus_server, tenant) as attacker,
        attempt(bus_server, tenant, "other") as victim,
        scheduler.serve(Ask.filter(op="desired"), answer),
    ):
        assert await victim.may_subscribe(DesiredAt.filter(tenant=tenant, job="other"))
        ear = str(DesiredAt("c1", "kube", tenant, "other"))
        for said in (Ask(tenant, "mine", 1, "desired"), Evt(tenant, "mine", 1, "step-started")):
            await attacker.may_publish(str(said), ear)
            async with asyncio.timeout(WAIT_SECONDS):
                _, heard = await victim.heard.get()
            with pytest.raises(Poison):
                decode(Order, heard)


async def test_no_reply_subject_makes_the_server_write_for_an_attempt(bus_server) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    said = (str(Evt(tenant, "mine", 1, "step-started")), str(LogTo(tenant, "mine", 1, 1)))
    wanted = [f"{head}.{tenant}.other" for head in ("job", "spec", "done")]
    wanted += [str(Submit(whose)) for whose in (tenant, other)]
    wanted += [str(Evt(whose, "other", 1, "attempt-ended")) for whose in (tenant, other)]
    wanted += [str(LogTo(whose, "other", 1, 1)) for whose in (tenant, other)]
    wanted += [str(OrderTo("c1", "m1", tenant, "other")), "metrics.c1.summary", "dlq.cache", "hb.c1.m1"]
    wanted += [f"$KV.{bucket.name}.{tenant}" for bucket in BUCKETS]
    wanted += ["$JS.API.STREAM.PURGE.JOBS", "$JS.ACK.SUBMIT.gateway.1.1.1.1.0"]
    before = await counts(bus_server)
    async with attempt(bus_server, tenant) as attacker:
        for subject, reply in product(said, wanted):
            await attacker.may_publish(subject, reply)
        # The last ones are behind all the others: once they are answered, so are those.
        for subject in said:
            await attacker.client.request(subject, b"{}", timeout=WAIT_SECONDS)
    after = await counts(bus_server)
    # Its own, and nothing else.
    grown = {name: after[name] - before[name] for name in before if after[name] != before[name]}
    assert grown.keys() == {"EVT", "LOG"}
    async with bus_server.connect(bus_server.identity.credential(AUDITOR)) as bus:
        for stream in (EVT, LOG):
            stored = [m.subject async for m in bus.read(stream, from_seq=before[stream.name] + 1)]
            assert all(".mine.1." in subject and f".{tenant}." in subject for subject in stored)


async def test_a_tenants_service_submits_and_does_nothing_else(bus_server) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    async with service(bus_server, tenant) as attacker:
        assert await attacker.may_publish(str(Submit(tenant)))
        for subject in (str(Submit(other)), str(Evt(tenant, "j", 1, "attempt-ended")), f"log.{tenant}.j.1.1"):
            assert not await attacker.may_publish(subject)
        for subject in (
            f"job.{tenant}.j",
            f"feed.{tenant}.j.1.x",
            "$JS.API.INFO",
            "edge.c1.m1.grant",
            "svc.cache.download",
        ):
            assert not await attacker.may_publish(subject)


async def test_no_reply_subject_makes_the_server_write_for_a_tenants_service(bus_server) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    replies = [f"job.{tenant}.j", str(Evt(tenant, "j", 1, "attempt-ended")), str(Submit(other)), "$KV.TENANTS.x"]
    before = await counts(bus_server)
    async with service(bus_server, tenant) as attacker:
        for reply in replies:
            await attacker.may_publish(str(Submit(tenant)), reply)
        await attacker.client.request(str(Submit(tenant)), b"{}", timeout=WAIT_SECONDS)
    after = await counts(bus_server)
    assert {name: after[name] - before[name] for name in before if after[name] != before[name]} == {
        "SUBMIT": len(replies) + 1
    }


async def test_a_tenants_feed_is_its_own(bus_server, hub_bus) -> None:
    tenant, other = await bus_server.tenant(), await bus_server.tenant()
    scheduler = await hub_bus(SCHEDULER)
    async with service(bus_server, tenant) as attacker, service(bus_server, other) as owner:
        for subject in (">", "feed.>", "feed.*.>", f"feed.{other}.>"):
            assert not await attacker.may_subscribe(subject)
        assert await attacker.may_subscribe(f"feed.{tenant}.>")
        assert await owner.may_subscribe(f"feed.{other}.>")
        await scheduler.publish(Evt(other, "j", 1, "attempt-ended"), b"{}")
        await scheduler.publish(Evt(tenant, "j", 1, "attempt-ended"), b"{}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await owner.heard.get())[0].startswith(f"feed.{other}.")
            assert (await attacker.heard.get())[0].startswith(f"feed.{tenant}.")
        assert attacker.heard.empty()


async def test_a_machine_asks_and_beats_for_itself_alone(bus_server) -> None:
    async with machine(bus_server, "c1") as attacker:
        assert await attacker.may_publish(str(Beat("c1", "m1")))
        assert await attacker.may_publish(str(Edge("c1", "m1", "orders")))
        for subject in (Beat("c1", "m2"), Beat("c2", "m1"), Edge("c1", "m2", "orders"), Edge("c2", "m1", "grant")):
            assert not await attacker.may_publish(str(subject))


async def test_a_machine_claims_and_gives_up_attempts_and_tells_nothing_else_of_them(bus_server) -> None:
    async with machine(bus_server, "c1") as attacker:
        assert await attacker.may_publish(str(Evt("t1", "claimed", 1, "attempt-accepted")))
        for subject in (
            Evt("t1", "j", 1, "step-ended"),
            Evt("t1", "j", 0, "job-cancel-requested"),
            LogTo("t1", "j", 1, 1),
            Job("t1", "j"),
            OrderTo("c1", "m1", "t1", "j"),
            Submit("t1"),
        ):
            assert not await attacker.may_publish(str(subject))


async def test_a_machine_is_woken_for_its_own_orders_alone(bus_server, hub_bus) -> None:
    cluster, other = await bus_server.cluster(), await bus_server.cluster()
    scheduler = await hub_bus(SCHEDULER)
    async with machine(bus_server, cluster) as attacker:
        for subject in (
            ">",
            "desired.>",
            DesiredAt.filter(cluster=cluster),
            DesiredAt.filter(cluster=cluster, target="m2"),
            DesiredAt.filter(cluster=other, target="m1"),
            "_INBOX_machine-m2.>",
        ):
            assert not await attacker.may_subscribe(subject)
        assert await attacker.may_subscribe(DesiredAt.filter(cluster=cluster, target="m1"))
        await scheduler.publish(OrderTo(other, "m1", "t1", "j1"), b"{}")
        await scheduler.publish(OrderTo(cluster, "m2", "t1", "j2"), b"{}")
        await scheduler.publish(OrderTo(cluster, "m1", "t1", "j3"), b"{}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await attacker.heard.get() == (str(DesiredAt(cluster, "m1", "t1", "j3")), b"{}")
        assert attacker.heard.empty()


async def test_a_clusters_account_does_not_reach_other_clusters_even_with_every_permission(bus_server, hub_bus) -> None:
    """The walls are the accounts' imports: a machine's permissions are only the door within."""
    cluster, other = await bus_server.cluster(), await bus_server.cluster()
    credential = bus_server.identity.credential(
        Party("king", "cluster", publishes=(">",), subscribes=(">",)), cluster=cluster
    )
    scheduler, metrics = await hub_bus(SCHEDULER), await hub_bus(CLUSTER_METRICS)
    async with Attacker.at(bus_server.url, credential) as king, metrics.listen(Beat.filter()) as beats:
        assert await king.may_subscribe("desired.>")
        await scheduler.publish(OrderTo(other, "m1", "t1", "j"), b"{}")
        await scheduler.publish(OrderTo(cluster, "m1", "t1", "j"), b"{}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await king.heard.get())[0] == str(DesiredAt(cluster, "m1", "t1", "j"))
        await king.may_publish(str(Beat(other, "m1")))
        await king.may_publish(str(Beat(cluster, "m1")))
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await anext(beats)).subject == str(Beat(cluster, "m1"))
        before = await counts(bus_server)
        for subject in (
            "job.t1.j",
            "submit.t1",
            "log.t1.j.1.1",
            "order.c1.m1.t1.j",
            "$KV.LEASE.x",
        ):
            assert not await king.gets_answer(subject)
        assert await counts(bus_server) == before


async def test_a_private_clusters_machines_tell_nothing_of_other_tenants(bus_server) -> None:
    tenant = await bus_server.tenant()
    cluster = await bus_server.cluster(tenants=(tenant,))
    async with machine(bus_server, cluster) as attacker:
        assert await attacker.gets_answer(str(Evt(tenant, "j", 1, "attempt-accepted")))
        assert not await attacker.gets_answer(str(Evt("t1", "private", 1, "attempt-accepted")))


@pytest.mark.parametrize("reply", ["evt.t1.b.1.attempt-ended", "evt.t1.b.1.step-ended", "edge.c1.m2.grant", "job.t1.b"])
async def test_no_answer_to_a_machine_is_written_elsewhere(bus_server, hub_bus, reply: str) -> None:
    gateway = await hub_bus(GATEWAY)
    asked: list[str] = []

    async def answer(message):
        asked.append(message.subject)
        return b'{"forged": true}', {}

    before = await counts(bus_server)
    async with machine(bus_server, "c1") as attacker, gateway.serve(Edge.filter(op="grant"), answer):
        await attacker.may_publish(str(Edge("c1", "m1", "grant")), reply)
        await attacker.client.request(str(Edge("c1", "m1", "grant")), b"{}", timeout=WAIT_SECONDS)
    assert asked == [str(Edge("c1", "m1", "grant"))] * 2
    assert await counts(bus_server) == before


async def test_subjects_of_this_table_are_real() -> None:
    """The samples above follow the patterns they attack."""
    for kind, text in (
        (Job, "job.t1.j"),
        (Submit, "submit.t1"),
        (OrderTo, "order.c1.m1.t1.j"),
        (LogTo, "log.t1.j.1.1"),
    ):
        assert issubclass(kind, Subject)
        assert str(kind.parse(text)) == text
