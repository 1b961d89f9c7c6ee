"""Whose turn it is."""

import pytest

from services.scheduler.model import Rules
from services.scheduler.why import why
from shared.lifecycle import JobState
from shared.placement import Target
from tests.unit.scheduler.town import Town, machine, record


def placed(town: Town, tenant: str) -> int:
    return sum(key[0] == tenant and town.record(key).state is JobState.PLACED for key in town.jobs)


def run_through(town: Town, rounds: int, seconds: float = 10.0) -> dict[str, int]:
    """Every placed job runs `seconds`; how many each tenant started in all."""
    started: dict[str, int] = {}
    for _ in range(rounds):
        town.settle()
        for key in sorted(town.jobs):
            if town.record(key).state is JobState.PLACED:
                started[key[0]] = started.get(key[0], 0) + 1
                town.accept(key)
        town.now += seconds
        for key in sorted(town.jobs):
            if town.record(key).state is JobState.PLACED:
                town.end(key)
        town.see(machine("m", version=int(town.now), cpus=1))
    return started


def test_tenants_share_equally_however_many_jobs_one_of_them_submits() -> None:
    town = Town()
    for number in range(200):
        town.submit(record(f"a{number}", "greedy"))
    for number in range(40):
        town.submit(record(f"b{number}", "modest", at=1000.5))
    town.see(machine("m", cpus=8))
    town.settle()
    assert (placed(town, "greedy"), placed(town, "modest")) == (4, 4)


def test_twice_the_weight_is_twice_the_machines() -> None:
    town = Town()
    town.limit("heavy", 1000, weight=2.0)
    for number in range(60):
        town.submit(record(f"a{number}", "heavy"))
        town.submit(record(f"b{number}", "light"))
    town.see(machine("m", cpus=12))
    town.settle()
    assert (placed(town, "heavy"), placed(town, "light")) == (8, 4)


def test_who_just_had_much_waits_behind_who_had_little_and_is_forgiven_in_time() -> None:
    town = Town(Rules(half_life_seconds=100))
    town.see(machine("m", cpus=1))
    for number in range(30):
        town.submit(record(f"a{number}", "early"))
    assert run_through(town, 10) == {"early": 10}
    for number in range(30):
        town.submit(record(f"b{number}", "late", at=town.now))
    started = run_through(town, 4)
    assert started["late"] >= 3, "early has just had ten turns"
    started = run_through(town, 20)
    assert abs(started["late"] - started["early"]) <= 6


def test_priority_then_age_decide_within_a_tenant() -> None:
    town = Town()
    old = town.submit(record("old", at=900))
    new = town.submit(record("new", at=950))
    urgent = town.submit(record("urgent", at=999, priority=5))
    town.see(machine("m", cpus=1))
    order = []
    for _ in range(3):
        town.settle()
        key = next(key for key in town.jobs if town.record(key).state is JobState.PLACED)
        order.append(key)
        town.end(key)
        town.settle()
    assert order == [urgent, old, new]


def test_a_job_without_room_does_not_stop_those_behind_it() -> None:
    town = Town()
    town.see(machine("m", cpus=2))
    town.submit(record("huge", cpus=64, at=900))
    small = town.submit(record("small", at=950))
    town.settle()
    assert town.record(small).state is JobState.PLACED


def test_a_large_job_is_not_starved_by_a_stream_of_small_ones() -> None:
    town = Town(Rules(starve_seconds=30))
    town.see(machine("m", cpus=4))
    running = [town.submit(record(f"s{number}", at=900 + number)) for number in range(4)]
    town.settle()
    large = town.submit(record("large", cpus=4, at=905))
    version = 2
    for number in range(100):
        town.submit(record(f"t{number}", "other", at=town.now))
        oldest = running.pop(0) if running else None
        if oldest is not None:
            town.end(oldest)
        version += 1
        town.see(machine("m", version=version, cpus=4, attempts=town.running()))
        town.settle(5)
        running += [
            key
            for key in sorted(town.jobs)
            if town.record(key).state is JobState.PLACED and key not in running and town.accept(key)
        ]
        if town.record(large).state is JobState.PLACED:
            break
    assert town.record(large).state is JobState.PLACED
    assert number < 20, "a hold drains the machine within a few ends"
    assert not town.state.fleet.holds


def test_a_hold_ends_with_the_job_it_was_for() -> None:
    town = Town(Rules(starve_seconds=30))
    town.see(machine("m", cpus=4))
    first = town.submit(record("first", at=900))
    town.settle()
    large = town.submit(record("large", cpus=4, at=905))
    town.accept(first)
    town.see(machine("m", version=2, cpus=4, attempts=town.running()))
    town.settle(40)
    assert set(town.state.fleet.holds) == {Target("c", "m")}
    town.cancel(large)
    town.settle()
    assert not town.state.fleet.holds
    small = town.submit(record("small", at=town.now))
    town.settle()
    assert town.record(small).state is JobState.PLACED


@pytest.mark.parametrize("position", [0, 1, 5])
def test_why_tells_the_position_and_the_reason(position: int) -> None:
    town = Town()
    town.see(machine("m", cpus=1))
    town.submit(record("running", at=900))
    town.settle()
    waiting = [town.submit(record(f"w{number}", at=1000 + number)) for number in range(6)]
    town.settle()
    told = why(town.state, waiting[position], town.now)
    assert (told.state, told.code, told.position) == ("queued", "busy", position)
    assert told.detail == "waits for room: m is busy"
    assert told.candidates == {"c/m": "busy: needs 1 cores, 0 is free"}


def test_ten_thousand_waiting_jobs_of_one_kind_cost_one_look() -> None:
    town = Town(Rules(max_in_flight=100_000))
    town.see(machine("m", cpus=1))
    for number in range(10_000):
        town.state.apply(_seen(number), town.now)
    looks = 0
    choose = town.state.fleet.choose

    def counted(want: object, images: object) -> object:
        nonlocal looks
        looks += 1
        return choose(want, images)

    town.state.fleet.choose = counted  # type: ignore[method-assign]
    from services.scheduler.policy import decide

    effects = decide(town.state, town.now)
    assert len(effects) == 1
    assert looks == 2


def _seen(number: int):
    from services.scheduler.model import RecordSeen

    return RecordSeen(record(f"j{number}"), number + 1)
