"""Lists as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from overspill.view.words import STYLES, ago, duration, harmless, mark, seconds_of, size

Row = Mapping[str, Any]


def jobs_table(jobs: Iterable[Row], now_seconds: float, *, unicode: bool) -> Table:
    table = _table("", "JOB", "NAME", "STATE", "CREATED", "TOOK", "WHY")
    for job in jobs:
        created, ended = seconds_of(job["created"]) or 0.0, seconds_of(job["ended"])
        table.add_row(
            Text(mark(job["state"], unicode=unicode), style=STYLES.get(job["state"], "")),
            job["id"],
            Text(job["name"]),
            Text(job["phase"].replace("_", " "), style=STYLES.get(job["state"], "")),
            ago(created, now_seconds),
            duration((ended or now_seconds) - created),
            Text(_why(job), overflow="ellipsis", no_wrap=True),
        )
    return table


def _why(job: Row) -> str:
    if job["state"] == "queued":
        return str(job["waiting_for"] or "").replace("_", " ")
    return "" if job["state"] == "succeeded" else str(job["message"])


def artifacts_table(artifacts: Iterable[Row]) -> Table:
    table = _table("ARTIFACT", "FILES", "SIZE", "EXPIRES")
    for artifact in artifacts:
        table.add_row(
            Text(artifact["name"]), str(artifact["files"]), size(artifact["size_bytes"]), artifact["expires"] or "never"
        )
    return table


def clusters_table(clusters: Iterable[Row], now_seconds: float) -> Table:
    table = _table("CLUSTER", "POOL", "MACHINE", "STATE", "RUNS", "ATTEMPTS", "CPU", "MEMORY", "LABELS", "SEEN")
    for cluster in clusters:
        for machine in cluster["machines"]:
            has = machine["allocatable"]
            table.add_row(
                cluster["cluster"],
                machine["pool"],
                machine["machine"],
                Text(
                    _state(machine), style="green" if machine["state"] == "ready" and not machine["note"] else "yellow"
                ),
                machine["isolation"],
                str(len(machine["attempts"]) + machine["others"]),
                f"{has['cpu_millis'] / 1000:g}",
                size(has["memory_bytes"]),
                Text(", ".join(machine["labels"])),
                ago(seconds_of(machine["seen"]) or 0.0, now_seconds),
            )
        if not cluster["machines"]:
            table.add_row(cluster["cluster"], "", "", Text("no machine", style="yellow"))
    return table


def pools_table(pools: Iterable[Row]) -> Table:
    table = _table("POOL", "KIND", "MACHINES", "FREE CPU", "FREE MEMORY")
    for pool in pools:
        free = pool.get("free") or {"cpu_millis": 0, "memory_bytes": 0}
        cpu, memory = f"{free['cpu_millis'] / 1000:g}", size(max(0, free["memory_bytes"]))
        table.add_row(pool["pool"], pool["kind"], str(pool["machines"]), cpu, memory)
    return table


def _state(machine: Row) -> str:
    return f"{machine['state']}: {machine['note']}" if machine["note"] else str(machine["state"])


def buried_table(buried: Iterable[Row], now_seconds: float) -> Table:
    table = _table("ID", "BURIED BY", "SENDER", "SUBJECT", "SIZE", "WHEN", "WHY")
    for entry in buried:
        table.add_row(
            str(entry["id"]),
            entry["service"],
            entry["sender"],
            Text(harmless(entry["subject"])),
            size(entry["size_bytes"]),
            ago(seconds_of(entry["time"]) or 0.0, now_seconds),
            Text(harmless(entry["why"])),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != "WHY")
    return table
