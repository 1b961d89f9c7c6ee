"""What a seed stands for."""

import math
from pathlib import Path

from shared.spec_reading import read_spec
from tests.chaos.jobs import KINDS
from tests.chaos.plan import LOSES_STEPS, POINTS_A_SEED, REACHED, VICTIMS, plan

RUNS = Path("/runs")
LAP = math.ceil(len(REACHED) / POINTS_A_SEED)


def test_half_as_many_seeds_as_points_reach_every_point() -> None:
    assert {name for seed in range(LAP) for name, _ in plan(seed, 30, RUNS).points} == set(REACHED)
    assert {name for seed in range(LAP - 1, 2 * LAP) for name, _ in plan(seed, 30, RUNS).points} == set(REACHED)
    assert set(REACHED) >= LOSES_STEPS


def test_the_same_seed_is_the_same_plan_and_another_is_another() -> None:
    assert plan(7, 30, RUNS) == plan(7, 30, RUNS)
    assert plan(7, 30, RUNS) != plan(8, 30, RUNS)


def test_every_victim_and_every_kind_of_job_has_its_turn() -> None:
    plans = [plan(seed, 30, RUNS) for seed in range(50)]
    assert {kill.victim for each in plans for kill in each.kills} == set(VICTIMS)
    assert all({job.kind for job in each.jobs} == KINDS.keys() and len(each.jobs) == 30 for each in plans)


def test_every_job_is_one_the_platform_admits() -> None:
    import orjson

    for job in plan(3, 30, RUNS).jobs:
        assert read_spec(orjson.dumps(dict(job.spec))).steps
