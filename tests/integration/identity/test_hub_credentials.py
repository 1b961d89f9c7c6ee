"""What a hub service's credential is for, and that it is for nothing else."""

import asyncio

import pytest
import structlog.testing

from shared.adapters.identity import Identity
from shared.adapters.nats_jwt import signed
from shared.adapters.nats_permissions import PROVISIONER, SEEDER, user_claim
from shared.adapters.nkeys import KeyKind, KeyPair
from shared.credential import Credential
from shared.errors import OverspillError
from shared.flow import BUCKETS, STREAMS, TENANTS, Evt, Job
from shared.parties import CACHE, CLUSTER_METRICS, GATEWAY, HUB_PARTIES, SCHEDULER, Party, attempt_party
from tests.integration.identity.attacker import WAIT_SECONDS, Attacker, comes_in


def sample(subject_filter: str) -> str:
    return ".".join("x" if token == "*" else token for token in subject_filter.split("."))


def covers(allowed: str, subject: str) -> bool:
    pairs = zip(allowed.split("."), subject.split("."), strict=False)
    return all(a in ("*", b) for a, b in pairs) and len(allowed.split(".")) == len(subject.split("."))


STORED = sorted(
    {sample(subject) for stream in STREAMS for subject in stream.subjects} | {"evt.x.x.0.job-cancel-requested"}
)


def at(server, party: Party):
    return Attacker.at(server.url, server.identity.credential(party))


@pytest.mark.parametrize("party", [*HUB_PARTIES, PROVISIONER, SEEDER], ids=lambda party: party.name)
async def test_a_hub_service_writes_only_what_its_line_in_the_flow_says(bus_server, party: Party) -> None:
    async with at(bus_server, party) as service:
        for subject in STORED:
            allowed = any(covers(filter_, subject) for filter_ in party.publishes)
            assert await service.may_publish(subject) == allowed, subject
        for bucket in BUCKETS:
            assert await service.may_publish(f"$KV.{bucket.name}.probe") == (bucket in party.writes_buckets), (
                bucket.name
            )


@pytest.mark.parametrize("party", HUB_PARTIES, ids=lambda party: party.name)
async def test_a_hub_service_changes_no_stream_and_reads_only_its_own(bus_server, party: Party) -> None:
    read = {stream.name for stream in (*party.reads, *party.works)} | {f"KV_{bucket.name}" for bucket in party.buckets}
    async with at(bus_server, party) as service:
        for name in [stream.name for stream in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]:
            for call in ("CREATE", "UPDATE", "DELETE", "MSG.DELETE", "SNAPSHOT", "RESTORE"):
                assert not await service.may_publish(f"$JS.API.STREAM.{call}.{name}")
            purges = name in {stream.name for stream in party.purges}
            if not purges:
                assert not await service.may_publish(f"$JS.API.STREAM.PURGE.{name}")
            if name not in read:
                assert not await service.may_publish(f"$JS.API.CONSUMER.CREATE.{name}.probe")
                assert not await service.may_publish(f"$JS.API.STREAM.MSG.GET.{name}")
                assert not await service.may_publish(f"$JS.API.DIRECT.GET.{name}.probe")


@pytest.mark.parametrize("party", HUB_PARTIES, ids=lambda party: party.name)
async def test_a_hub_service_hears_only_what_its_line_says(bus_server, party: Party) -> None:
    async with at(bus_server, party) as service:
        for subject in (
            ">",
            "*.>",
            "job.>",
            "evt.>",
            "log.>",
            "submit.*",
            "svc.>",
            "ask.>",
            "edge.>",
            "$JS.>",
            "$KV.>",
        ):
            assert not await service.may_subscribe(subject), subject
        for other in HUB_PARTIES:
            assert await service.may_subscribe(f"_INBOX_{other.name}.>") == (other == party)
        for subject in party.subscribes:
            assert await service.may_subscribe(subject)


async def test_who_answers_requests_may_answer_and_nothing_more(bus_server, hub_bus) -> None:
    gateway = await hub_bus(GATEWAY)

    async def answer(message):
        return b"yes", {}

    async with (await hub_bus(CACHE)).serve("svc.cache.*", answer, queue="cache"):
        assert (await gateway.request("svc.cache.probe")).data == b"yes"
    async with at(bus_server, CACHE) as cache:
        assert not await cache.may_publish("_INBOX_gateway.x")


async def test_a_refused_write_is_told_to_the_log_and_is_an_error_to_the_writer(bus_server, hub_bus) -> None:
    metrics = await hub_bus(CLUSTER_METRICS)
    with structlog.testing.capture_logs() as facts, pytest.raises(OverspillError):
        await metrics.publish(Job("t1", "j"), b"{}", timeout_seconds=0.5)
    assert any(fact["event"] == "bus_error" and "job.t1.j" in fact["error"] for fact in facts)


async def test_a_credential_that_expires_ends_its_connection_and_opens_no_other(bus_server) -> None:
    credential = bus_server.identity.credential(attempt_party("t1", "brief", 1), tenant="t1", expires_seconds=1)
    async with Attacker.at(bus_server.url, credential) as runner:
        assert await runner.may_publish(str(Evt("t1", "brief", 1, "step-started")))
        async with asyncio.timeout(WAIT_SECONDS):
            await runner.lost.wait()
    async with asyncio.timeout(WAIT_SECONDS):
        # Until the second has gone in which it still counts.
        while await comes_in(bus_server.url, credential):
            pass


async def test_nobody_comes_in_without_a_credential_of_this_operator(bus_server, tmp_path) -> None:
    stranger = Identity.create(tmp_path / "identity")
    assert not await comes_in(bus_server.url, stranger.credential(GATEWAY))
    assert not await comes_in(bus_server.url, None)
    assert await comes_in(bus_server.url, bus_server.identity.credential(GATEWAY))


async def test_a_user_cant_widen_its_own_credential(bus_server) -> None:
    """Only the account's key signs its users: a JWT signed by the user's own is refused."""
    own = KeyPair.generate(KeyKind.ACCOUNT)
    user = KeyPair.generate(KeyKind.USER)
    claim = user_claim(Party("forged", "hub", publishes=(">",), subscribes=(">",)))
    assert not await comes_in(
        bus_server.url, Credential(signed(own, user.public, "forged", claim), user.seed, "forged")
    )


async def test_a_services_bucket_is_there_for_it(hub_bus) -> None:
    seeder, scheduler = await hub_bus(SEEDER), await hub_bus(SCHEDULER)
    await seeder.bucket(TENANTS).put("seen", b"1")
    entry = await scheduler.bucket(TENANTS).get("seen")
    assert entry is not None
    assert entry.value == b"1"
