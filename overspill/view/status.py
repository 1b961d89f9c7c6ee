"""`overspill status` on one screen: what is wrong, who is there, and the four figures of an hour, a day and a week."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from overspill.view.words import ago, duration, seconds_of

Told = Mapping[str, Any]
WINDOWS = {"hour": "LAST HOUR", "day": "LAST DAY", "week": "LAST 7 DAYS"}
_HOUR = 3600


def status_lines(told: Told, now_seconds: float, *, unicode: bool) -> Iterator[RenderableType]:
    yield _headline(told, unicode=unicode)
    for line in told["wrong"]:
        yield Text(f"  {'•' if unicode else '-'} {line}", style="yellow")
    yield ""
    yield _parts(told, now_seconds)
    yield ""
    yield _figures(told["figures"])
    if told["scope"] == "tenant":
        yield Text(f"\nOf tenant {told['tenant']}; an operator's key shows the whole platform.", style="dim")


def _headline(told: Told, *, unicode: bool) -> Text:
    if told["healthy"]:
        return Text("✓ All is well" if unicode else "ok: all is well", style="bold green")
    number = len(told["wrong"])
    words = "1 thing is wrong" if number == 1 else f"{number} things are wrong"
    return Text(f"✗ {words}" if unicode else f"DEGRADED: {words}", style="bold red")


def _parts(told: Told, now_seconds: float) -> Table:
    table = _table("", "")
    table.show_header = False
    table.add_row("services", _services(told["services"]))
    table.add_row("machines", _machines(told["machines"]))
    queue = told["queue"]
    oldest = queue["oldest_wait_seconds"]
    waits = f"{queue['waiting']} waiting" + (f", the oldest for {duration(oldest)}" if oldest is not None else "")
    table.add_row("jobs", f"{queue['running']} running, {waits}")
    letters = told["dead_letters"]
    if letters is not None:
        newest = max(letters["newest"].values(), default=None)
        when = f", the newest {ago(seconds_of(newest) or 0.0, now_seconds)}" if newest else ""
        table.add_row("dead letters", f"{letters['count']}{when}" if letters["count"] else "none")
    return table


def _services(services: list[Told]) -> Text:
    line = Text()
    for service in services:
        well = service["answers"] and not service["complaints"]
        word = service["service"] + ("" if well else " (complains)" if service["answers"] else " (silent)")
        line.append(word, style="green" if well else "bold red").append("  ")
    return line


def _machines(machines: Told | None) -> Text:
    if machines is None:
        return Text("unknown", style="yellow")
    some = f"{machines['ready']} ready"
    some += f", {machines['draining']} draining" if machines["draining"] else ""
    return Text(f"{some}, {len(machines['lost'])} lost", style="yellow" if machines["lost"] else "")


def _figures(figures: Mapping[str, Told]) -> Table:
    table = _table("", *WINDOWS.values())
    for column in table.columns[1:]:
        column.min_width = 16
    each = [figures[name] for name in WINDOWS]

    def row(label: str, *cells: str, style: str = "") -> None:
        table.add_row(Text(label, style=style), *(Text(cell, style=style) for cell in cells))

    stable = [one["stability"] for one in each]
    target = f"{stable[0]['start_target_seconds']:.0f} s"
    row("Stability", *(_share(one["share"]) for one in stable), style="bold")
    row("  accepted", *(f"{one['accepted']:,}" for one in stable))
    row(f"  started within {target}", *(_of(one["started_in_time"], one["started_late"]) for one in stable))
    row("  ended by our error", *(str(one["our_errors"]) for one in stable))
    row("  attempts tried again", *(str(one["retried_attempts"]) for one in stable))
    speed = [one["speed"] for one in each]
    row("Speed: system time p50", *(_seconds(one["p50_seconds"]) for one in speed), style="bold")
    row("  p99", *(_seconds(one["p99_seconds"]) for one in speed))
    for part in speed[-1]["mean_seconds_by_part"]:
        row(f"  {part}, mean", *(_seconds(one["mean_seconds_by_part"].get(part)) for one in speed))
    _cost(row, each)
    refused = [one["refusals"] for one in each]
    row("Security: refusals", *(f"{sum(one.values()):,}" for one in refused), style="bold")
    for kind in refused[-1]:
        row(f"  {kind}", *(str(one.get(kind, 0)) for one in refused))
    return table


def _cost(row: Any, each: list[Told]) -> None:
    pools = sorted({(pool["cluster"], pool["pool"]) for one in each for pool in one["cost"]})
    found = [{(pool["cluster"], pool["pool"]): pool for pool in one["cost"]} for one in each]
    row("Cost: capacity idle", *(_idle(one["cost"]) for one in each), style="bold")
    for pool in pools:
        here = [one.get(pool) for one in found]
        row(f"  {'/'.join(pool)}, cores", *(_amount(one, "core_seconds", 1.0, "core") for one in here))
        row(f"  {'/'.join(pool)}, memory", *(_amount(one, "memory_byte_seconds", 2.0**30, "GiB") for one in here))


def _idle(pools: list[Told]) -> str:
    there = sum(pool["core_seconds"]["allocatable"] or 0.0 for pool in pools)
    return f"{100 * sum(pool['core_seconds']['idle'] for pool in pools) / there:.1f} %" if there else "-"


def _amount(pool: Told | None, what: str, unit: float, word: str) -> str:
    """Requested, of what there was where that is told: in unit-seconds, or unit-hours when there are many."""
    if pool is None:
        return "-"
    amount = pool[what]
    requested, there = amount["requested"] / unit, amount["allocatable"]
    most = max(requested, (there or 0.0) / unit)
    divisor, per = (_HOUR, "h") if most >= _HOUR else (1, "s")
    of = f" of {there / unit / divisor:,.1f}" if there else ""
    return f"{requested / divisor:,.1f}{of} {word} {per}"


def _share(share: float | None) -> str:
    if share is None:
        return "no job yet"
    # Rounded down: 100 % is said of nothing less.
    return f"{int(share * 10_000) / 100:g} %"


def _of(kept: int, broken: int) -> str:
    return f"{kept:,} of {kept + broken:,}" if kept + broken else "-"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
