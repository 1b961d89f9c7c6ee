"""A round in a line, all of them in a table, a failure as a story."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.crash_points import POINTS
from tests.chaos.rounds import Outcome


def line(outcome: Outcome) -> str:
    missed = ", ".join(name for name, _ in outcome.plan.points if name not in outcome.fired)
    return (
        f"seed {outcome.plan.seed:3} {'FAILED' if outcome.wrong else 'ok':6} {outcome.seconds:5.0f} s"
        f"  at {', '.join(outcome.fired) or 'no point'}"
        f"{f' (not reached: {missed})' if missed else ''}"
        f"  random {_counted(Counter(victim for _, victim in outcome.kills))}"
        f"  jobs {_counted(outcome.verdicts)}"
        f"{f'  attempts lost {outcome.lost}' if outcome.lost else ''}"
    )


def _counted(counter: Counter[str]) -> str:
    return " ".join(f"{name}:{count}" for name, count in sorted(counter.items())) or "none"


def table(outcomes: Sequence[Outcome]) -> str:
    """By point: its kills; jobs, verdicts and seconds of the rounds they were in. Then the random ones, by victim."""
    planned = {name for outcome in outcomes for name, _ in outcome.plan.points}
    rows = [("point", "kills", "jobs", "verdicts", "seconds")]
    rows += [
        _row(point.name, [o for o in outcomes if point.name in o.fired], None)
        for point in POINTS
        if point.name in planned
    ]
    victims = Counter(victim for outcome in outcomes for _, victim in outcome.kills)
    for victim in sorted(victims):
        within = [o for o in outcomes if any(name == victim for _, name in o.kills)]
        rows.append(_row(f"any time: {victim}", within, victims[victim]))
    rows.append(_row("all", list(outcomes), sum(len(o.fired) + len(o.kills) for o in outcomes)))
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ("---",) * len(rows[0]), *rows[1:]))


def _row(name: str, within: Sequence[Outcome], kills: int | None) -> tuple[str, ...]:
    verdicts: Counter[str] = sum((outcome.verdicts for outcome in within), Counter())
    seconds = sum(outcome.seconds for outcome in within)
    count = len(within) if kills is None else kills
    return name, str(count), str(verdicts.total()), _counted(verdicts), f"{seconds:.0f}"


def story(outcome: Outcome, home: Path) -> str:
    return "\n".join(_story(outcome, home))


def _story(outcome: Outcome, home: Path) -> Iterator[str]:
    plan = outcome.plan
    yield f"\nseed {plan.seed} failed. Again: make chaos FIRST={plan.seed} SEEDS=1    Logs of every process: {home}"
    for name, complaints in outcome.wrong.items():
        for complaint in complaints:
            yield f"  {name or 'all'}: {complaint}"
    yield "Deaths:"
    deaths = [(at, f"at {name}") for name, at in outcome.fired.items()]
    deaths += [(at, victim) for at, victim in outcome.kills]
    for at, what in sorted(deaths):
        yield f"    {time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at * 1000) % 1000:03d} {what}"
    yield "What the jobs in question went through:"
    yield from outcome.stories
