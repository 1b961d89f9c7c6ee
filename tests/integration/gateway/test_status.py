"""/v1/status of a gateway that is alone, and what it says when others answer."""

import asyncio

from services.gateway.figures.ledger import Ledger
from shared.flow import FIGURES
from shared.health import STORE, healthy
from shared.parties import CACHE, CLUSTER_METRICS, LOG_COLLECTOR, SCHEDULER
from shared.principal import Role
from tests.integration.gateway.conftest import Gateway, eventually


async def status(gateway: Gateway, token: str | None = None):
    answer = await gateway.get("/v1/status", token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_services_that_do_not_answer_are_named_with_what_to_do(gateway: Gateway) -> None:
    told = await status(gateway)
    silent = {one["service"] for one in told["services"] if not one["answers"]}
    assert silent == {"scheduler", "log-collector", "cache", "cluster-metrics", "object-store"}
    assert not told["healthy"]
    assert any(line.startswith("scheduler does not answer") for line in told["wrong"])


async def test_what_a_service_complains_of_is_part_of_what_is_wrong(gateway: Gateway, hub_bus) -> None:
    async def complains() -> list[str]:
        return ["nobody leads"]

    bus = await hub_bus(SCHEDULER)
    async with healthy(bus, "scheduler", complains):
        told = await status(gateway)
    (scheduler,) = (one for one in told["services"] if one["service"] == "scheduler")
    assert scheduler["answers"]
    assert "scheduler: nobody leads" in told["wrong"]


async def test_a_tenant_sees_its_own_jobs_and_refusals_and_no_dead_letters_or_idle_machines(gateway: Gateway) -> None:
    other, token = await gateway.new_tenant()
    await gateway.submit()
    assert (await gateway.post("/v1/jobs", token, json={"steps": "none"})).status_code == 422

    async def own():
        return await status(gateway, token)

    told = await eventually(own, lambda told: told["figures"]["hour"]["refusals"] == {"spec": 1}, 30)
    assert (told["scope"], told["tenant"], told["dead_letters"]) == ("tenant", other, None)
    assert told["figures"]["hour"]["stability"]["accepted"] == 0
    assert told["queue"]["waiting"] == 0


async def test_an_operator_sees_everybodys(gateway: Gateway) -> None:
    _, token = await gateway.new_tenant(Role.OPERATOR)
    await gateway.submit()

    async def all_of_it():
        return await status(gateway, token)

    told = await eventually(all_of_it, lambda told: told["queue"]["waiting"] >= 1, 30)
    assert told["scope"] == "platform"
    assert told["figures"]["week"]["stability"]["accepted"] >= 1
    assert told["dead_letters"]["count"] >= 0


async def test_all_is_well_when_every_part_says_so(gateway: Gateway, hub_bus) -> None:
    parties = {"scheduler": SCHEDULER, "log-collector": LOG_COLLECTOR, "cluster-metrics": CLUSTER_METRICS}
    cache = await hub_bus(CACHE)
    async with asyncio.timeout(60), healthy(cache, "cache"), healthy(cache, "cache", op=STORE):
        contexts = [healthy(await hub_bus(party), name) for name, party in parties.items()]
        for context in contexts:
            await context.__aenter__()
        told = await status(gateway)
        for context in contexts:
            await context.__aexit__(None, None, None)
    # No agent runs here: that alone is wrong.
    assert [line for line in told["wrong"] if "machine" not in line and "lost" not in line] == []


async def test_refusals_survive_the_gateway_that_counted_them(gateway: Gateway) -> None:
    before = await gateway.bus.end_seq(FIGURES)
    assert (await gateway.http.get("/v1/jobs", headers={"Authorization": "Bearer nonsense"})).status_code == 401
    gateway.stop()
    await asyncio.gather(gateway.serving, return_exceptions=True)
    ledger = Ledger()
    async for message in gateway.bus.read(FIGURES, from_seq=before + 1):
        ledger.apply(message)
    assert ledger.refusals(0, None)["credential"] == 1
