"""Whether an attempt is this machine's to begin: the real claims and the gateway's real answer, on a bus in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runner.agent.agent import Agent
from runner.agent.cgroups import NoCgroups
from runner.agent.claiming import Claims, Machine
from runner.agent.custody import Means
from runner.agent.model import Key
from runner.agent.site import Processes
from runner.agent.tellers import Tellers
from runner.agent.telling import ClaimedBefore
from runner.protocol.directory import AttemptDir
from services.gateway.grants import QUEUE, Grants
from services.gateway.tenants import Directory
from shared import flow
from shared.credential import Credential
from shared.errors import Rejected
from shared.facts import AttemptAccepted, AttemptEnded, Order
from shared.lifecycle import JobState, Reason
from shared.requests import Grant
from shared.spec import JobSpec
from shared.tenancy import ClusterRecord
from shared.wire import decode, encode
from tests.memory_bus import MemoryBus, MemoryServer
from tests.unit.agent.test_agent_policy import ROOM, order
from tests.unit.scheduler.town import record

ORDER = order("j")


class Signs:
    """Credentials nobody checks: there is no server."""

    def credential(self, party: object, **about: object) -> Credential:
        return Credential("jwt", "seed")


def _ignored(error: Exception) -> None:
    assert error


@asynccontextmanager
async def hub(server: MemoryServer) -> AsyncIterator[None]:
    """The gateway's grants, with job `j` placed on machine `m`."""
    bus = MemoryBus(server)
    await bus.bucket(flow.CLUSTERS).put("c", encode(ClusterRecord(cluster="c", bus_urls=["nats://bus"])))
    placement = {"cluster": "c", "pool": "p", "target": "m"}
    placed = record("j", state=JobState.PLACED, epoch=1, placement=placement, placed_unix_ns=1)
    await bus.publish(flow.Job("t", "j"), encode(placed))
    spec = JobSpec.model_validate({"name": "build", "steps": [{"run": "true"}]})
    await bus.publish(flow.Spec("t", "j"), spec.canonical())
    directory = Directory(bus)
    watching = asyncio.create_task(directory.clusters.run())
    await directory.clusters.loaded.wait()
    grants = Grants(bus, directory, Signs(), 60, _ignored)
    async with bus.serve(grants.subject, grants.answer, queue=QUEUE):
        yield
    watching.cancel()


def claims(server: MemoryServer, attempts: Path) -> Claims:
    attempts.mkdir(exist_ok=True)
    return Claims(MemoryBus(server), _machine(attempts), NoCgroups())


def _machine(attempts: Path) -> Machine:
    return Machine("c", "m", attempts, attempts / "contact", Path("/bin/false"), {}, (), attempts, 1.0, 1000)


def accepted(server: MemoryServer) -> AttemptAccepted:
    found = server.logs["EVT"].last(str(flow.Evt("t", "j", 1, AttemptAccepted.token())))
    assert found is not None
    return decode(AttemptAccepted, found.data)


async def ended(server: MemoryServer) -> None:
    fact = AttemptEnded(tenant="t", job="j", epoch=1, at_unix_ns=0, outcome="error", reason=Reason.REFUSED)
    await MemoryBus(server).publish(flow.Evt("t", "j", 1, AttemptEnded.token()), encode(fact))


async def test_a_claim_whose_answer_was_lost_meets_itself_and_is_ours(tmp_path: Path) -> None:
    server = MemoryServer()
    async with hub(server):
        server.twist.writes.append("untold")
        assert (await claims(server, tmp_path).claim(ORDER)).job == "j"
    assert accepted(server).claim


@pytest.mark.parametrize("over", [False, True])
async def test_an_attempt_that_this_machine_forgot_is_not_begun_again_though_the_claims_answer_was_lost(
    tmp_path: Path, *, over: bool
) -> None:
    server = MemoryServer()
    async with hub(server):
        await claims(server, tmp_path / "former").claim(ORDER)
        if over:
            await ended(server)
        server.twist.writes.append("lost")
        with pytest.raises(ExceptionGroup) as refused:
            await claims(server, tmp_path / "fresh").claim(ORDER)
    assert refused.group_contains(ClaimedBefore)


async def test_an_inherited_order_whose_end_was_told_is_not_begun(tmp_path: Path) -> None:
    """A former agent told its end before it ever took it: the claim itself meets nobody."""
    server = MemoryServer()
    async with hub(server):
        await ended(server)
        with pytest.raises(ExceptionGroup) as refused:
            await claims(server, tmp_path).claim(ORDER, inherited=True)
    assert refused.group_contains(ClaimedBefore)


async def test_an_inherited_order_that_nobody_answered_is_begun(tmp_path: Path) -> None:
    server = MemoryServer()
    async with hub(server):
        assert (await claims(server, tmp_path).claim(ORDER, inherited=True)).job == "j"


class Noting(Claims):
    """Refuses every order and notes whether it was said to be inherited."""

    noted: dict[str, bool]

    async def claim(self, order: Order, *, inherited: bool = False) -> Grant:
        self.noted[order.job] = inherited
        raise Rejected(why="it is only noted")


async def test_orders_that_stood_when_the_agent_began_are_confirmed_and_later_ones_are_not(tmp_path: Path) -> None:
    noting = Noting(MemoryBus(MemoryServer()), _machine(tmp_path), NoCgroups())
    noting.noted = {}

    async def give_up(_: Key, why: str) -> None:
        pytest.fail(why)

    changed = asyncio.Event()
    means = Means(
        Path("/bin/false"), (), (), Tellers(0, tmp_path / "log", ()), NoCgroups(), 1.0, 1.0, changed.set, give_up
    )
    agent = Agent(noting, Processes(noting, means), AttemptDir(tmp_path), ROOM, changed)
    async with asyncio.TaskGroup() as tasks:
        agent.book.told([order("stood")], asked_at=1.0)
        agent.reconcile(tasks)
        agent.book.live(order("came"), at=2.0)
        agent.reconcile(tasks)
    assert noting.noted == {"stood": True, "came": False}
