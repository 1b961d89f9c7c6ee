"""A job, and what happened to it, in lines."""

from collections.abc import Mapping
from typing import Any

from overspill.view.words import duration, mark, size

Row = Mapping[str, Any]
_TELLING = ("step", "name", "state", "outcome", "reason", "machine", "waiting_for", "exit_code", "message", "by")


def head(job: Row, *, unicode: bool) -> str:
    phase = job["phase"].replace("_", " ")
    return f"{mark(job['state'], unicode=unicode)} {job['name']} {phase} in {duration(job['times']['total_seconds'])}"


def facts(job: Row) -> list[str]:
    lines = [f"{job['id']}, created {job['created']} by {job['submitted_by']} via {job['submitted_via']}"]
    place = job["placement"]
    if place:
        lines.append(f"attempt {job['epoch']} on {place['target']} (cluster {place['cluster']}, pool {place['pool']})")
    if job["labels"]:
        lines.append("labels " + ", ".join(f"{key}={value}" for key, value in sorted(job["labels"].items())))
    if job["waiting_for"]:
        lines.append(f"waits for {job['waiting_for'].replace('_', ' ')}; see `overspill why {job['id'][:8]}`")
    return lines


def problems(job: Row) -> list[str]:
    if job["state"] in ("queued", "placed", "succeeded"):
        return []
    reason = (job["reason"] or job["state"]).replace("_", " ")
    return [f"{reason}: {job['message']}" if job["message"] else reason]


def outputs(job: Row) -> list[str]:
    lines = [
        f"output {step['step']} {step['name']}: {key}={value}"
        for step in job["steps"]
        for key, value in step["outputs"].items()
    ]
    lines.extend(
        f"log {step['step']} {step['name']}: its limit dropped {size(step['log_dropped_bytes'])}"
        for step in job["steps"]
        if step["log_dropped_bytes"]
    )
    lines.extend(
        f"artifact {artifact['name']}: {artifact['files']} files, {size(artifact['size_bytes'])}"
        for artifact in job["artifacts"]
    )
    return lines


def event_line(event: Row) -> str:
    kind = event["type"].removeprefix("overspill.").rpartition(".v")[0] or event["type"]
    data = event["data"]
    told = " ".join(f"{key}={data[key]}" for key in _TELLING if data.get(key) not in (None, ""))
    return f"{event['time']} {event['epoch']} {kind:<20} {told}".rstrip()
