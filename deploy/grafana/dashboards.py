"""The dashboard of the four headline figures: stability, speed, cost, security; and of the parts behind them."""

from typing import Any

from deploy.grafana.panels import DATASOURCE, Panel, Query, Row, place
from deploy.grafana.promql import increase, label, now, quantile, rate, series
from shared import metrics as m

OURS = f'{label(m.TENANT)}=~"$tenant"'
"""Of the tenants that are chosen."""
PENDING = f'{label(m.STATE)}="pending", {OURS}'
"""Every job that is over was pending once."""
IN_TIME = f'overspill_in_time="true", {OURS}'
TRUTHFUL = f'{label(m.RESULT)}!="error", {PENDING}'
GOOD = ((None, "red"), (0.99, "yellow"), (0.999, "green"))
BAD = ((None, "green"), (1, "red"))


def _legend(*attributes: str) -> str:
    return " ".join(f"{{{{{label(attribute)}}}}}" for attribute in attributes)


STABILITY = Row(
    "Stability",
    (
        Panel(
            "Started in time",
            "Of the accepted jobs that are decided, those a machine took within the target.",
            "percentunit",
            (
                Query(
                    f"{increase(m.STARTED, where=IN_TIME)} / {increase(m.STARTED, where=OURS)}",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
            steps=GOOD,
        ),
        Panel(
            "Ended truthfully",
            "Of the jobs that are over, those that did not end by an error of the platform.",
            "percentunit",
            (
                Query(
                    f"{increase(m.RUN_DURATION, where=TRUTHFUL)} / {increase(m.RUN_DURATION, where=PENDING)}",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
            steps=GOOD,
        ),
        Panel(
            "Accepted",
            "Jobs the platform promised to run, by the door they came in by.",
            "short",
            (Query(increase(m.ACCEPTED, "overspill.door", where=OURS), _legend("overspill.door")),),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Longest wait now",
            "Of the job that waits longest.",
            "s",
            (Query(f"max({series(m.QUEUE_OLDEST)})"),),
            kind="stat",
            width=6,
            height=5,
            steps=((None, "green"), (60, "yellow"), (300, "red")),
        ),
        Panel(
            "Jobs that ended, by result",
            "`error` is the platform's doing, `failure` the build's.",
            "ops",
            (Query(rate(m.RUN_DURATION, m.RESULT, where=PENDING), _legend(m.RESULT)),),
            stacked=True,
        ),
        Panel(
            "Jobs that are not over",
            "Waiting (pending) and on a machine (executing).",
            "short",
            (Query(now(m.RUN_ACTIVE, m.STATE), _legend(m.STATE)),),
            stacked=True,
        ),
        Panel(
            "Why jobs did not succeed, and attempts were tried again",
            "Reasons, as `overspill why` names them.",
            "ops",
            (
                Query(rate(m.RUN_ERRORS, m.ERROR, where=OURS), f"{_legend(m.ERROR)}"),
                Query(rate(m.RETRIED, m.ERROR), f"again: {_legend(m.ERROR)}"),
            ),
        ),
    ),
)
SPEED = Row(
    "Speed",
    (
        Panel(
            "System time of a job, median by part",
            "The platform's own time: what is no step of the build.",
            "s",
            (Query(quantile(0.5, m.SYSTEM_TIME, "overspill.part"), _legend("overspill.part")),),
        ),
        Panel(
            "System time of a job, 99th percentile by part",
            "The slowest in a hundred.",
            "s",
            (Query(quantile(0.99, m.SYSTEM_TIME, "overspill.part"), _legend("overspill.part")),),
        ),
        Panel(
            "Time of jobs by state",
            "Median and 90th percentile: pending, executing, finalizing.",
            "s",
            (
                Query(quantile(0.5, m.RUN_DURATION, m.STATE, where=OURS), f"p50 {_legend(m.STATE)}"),
                Query(quantile(0.9, m.RUN_DURATION, m.STATE, where=OURS), f"p90 {_legend(m.STATE)}"),
            ),
        ),
    ),
)
_POOL = (m.CLUSTER, m.POOL)
COST = Row(
    "Cost",
    (
        Panel(
            "Cores: there and reserved",
            "The gap between the two is idle.",
            "short",
            (
                Query(now(m.CPU, *_POOL), f"there {_legend(*_POOL)}"),
                Query(now(m.CPU_REQUESTED, *_POOL), f"reserved {_legend(*_POOL)}"),
            ),
        ),
        Panel(
            "Memory: there and reserved",
            "The gap between the two is idle.",
            "bytes",
            (
                Query(now(m.MEMORY, *_POOL), f"there {_legend(*_POOL)}"),
                Query(now(m.MEMORY_REQUESTED, *_POOL), f"reserved {_legend(*_POOL)}"),
            ),
        ),
        Panel(
            "Machines by state",
            "Available, busy, draining, offline (lost).",
            "short",
            (Query(now(m.WORKERS, "cicd.worker.state"), _legend("cicd.worker.state")),),
            stacked=True,
        ),
        Panel(
            "Pods by phase, and why those that are pending wait",
            "In Kubernetes clusters.",
            "short",
            (
                Query(now(m.PODS, "overspill.pod.phase"), _legend("overspill.pod.phase")),
                Query(now(m.PODS_PENDING, "overspill.pending.reason"), _legend("overspill.pending.reason")),
            ),
        ),
        Panel(
            "Idle core-hours in this range",
            "What was there, less what attempts had reserved.",
            "short",
            (Query(f"clamp_min(({increase(m.CPU_TIME)} - {increase(m.CPU_REQUESTED_TIME)}) / 3600, 0)"),),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Core-hours reserved in this range",
            "By attempts, from their placement to their end.",
            "short",
            (Query(f"{increase(m.CPU_REQUESTED_TIME)} / 3600"),),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Idle share of cores",
            "In this range.",
            "percentunit",
            (Query(f"clamp_min(1 - {increase(m.CPU_REQUESTED_TIME)} / {increase(m.CPU_TIME)}, 0)"),),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Idle share of memory",
            "In this range.",
            "percentunit",
            (Query(f"clamp_min(1 - {increase(m.MEMORY_REQUESTED_TIME)} / {increase(m.MEMORY_TIME)}, 0)"),),
            kind="stat",
            width=6,
            height=5,
        ),
    ),
)
_KIND = "overspill.refusal.kind"
SECURITY = Row(
    "Security",
    (
        Panel(
            "Refusals by kind",
            "credential, role, foreign, permission: somebody tried what is not theirs. The others: asked too much.",
            "ops",
            (Query(rate(m.REFUSED, _KIND), _legend(_KIND)),),
            width=16,
            stacked=True,
        ),
        Panel(
            "Refused in this range",
            "By kind.",
            "short",
            (Query(increase(m.REFUSED, _KIND), _legend(_KIND)),),
            kind="stat",
        ),
    ),
)
_ROUTE, _STATUS = "http.route", "http.response.status_code"
PARTS = Row(
    "The parts",
    (
        Panel(
            "Leading schedulers",
            "Exactly one, always.",
            "short",
            (Query(now(m.LEADING)),),
            kind="stat",
            width=4,
            steps=((None, "red"), (1, "green"), (2, "red")),
        ),
        Panel(
            "What could not be handled, by part",
            "Poison that was buried, effects that were put off, requests that failed.",
            "ops",
            (
                Query(
                    rate(m.SYSTEM_ERRORS, "cicd.system.component", m.ERROR),
                    _legend("cicd.system.component", m.ERROR),
                ),
            ),
            width=6,
        ),
        Panel(
            "HTTP answers by status",
            "To requests of people and programs.",
            "reqps",
            (Query(rate(m.HTTP_DURATION, _STATUS), _legend(_STATUS)),),
            width=5,
            stacked=True,
        ),
        Panel(
            "HTTP 99th percentile by route",
            "Until the answer begins.",
            "s",
            (Query(quantile(0.99, m.HTTP_DURATION, _ROUTE), _legend(_ROUTE)),),
            width=5,
        ),
        Panel(
            "Log bytes made durable", "By the log-collector.", "Bps", (Query(rate(m.LOG_STORED), "stored"),), width=4
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    return {
        "uid": "overspill",
        "title": "Overspill",
        "description": "Stability, speed, cost and security of the platform. Made by `python -m deploy.grafana`.",
        "tags": ["overspill", "ci"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_DATASOURCE, _TENANT]},
        "panels": place((STABILITY, SPEED, COST, SECURITY, PARTS)),
    }


_DATASOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "options": [],
    "refresh": 1,
    "regex": "",
}
_TENANT = {
    "name": "tenant",
    "label": "Tenant",
    "type": "query",
    "datasource": DATASOURCE,
    "query": {
        "query": f"label_values({series(m.ACCEPTED)}, {label(m.TENANT)})",
        "refId": "PrometheusVariableQueryEditor-VariableQuery",
    },
    "definition": f"label_values({series(m.ACCEPTED)}, {label(m.TENANT)})",
    "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    "includeAll": True,
    "allValue": ".*",
    "multi": True,
    "hide": 0,
    "options": [],
    "refresh": 2,
    "regex": "",
    "sort": 1,
}
