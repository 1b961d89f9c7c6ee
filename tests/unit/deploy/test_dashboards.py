"""Dashboards and alerts speak of what the services export, and of nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.grafana.__main__ import FILE, text
from deploy.grafana.dashboards import dashboard
from deploy.grafana.panels import WIDTH
from deploy.grafana.promql import all_series, labels
from shared.metrics import METRICS

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs/runbooks"
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/alerts/overspill.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SERIES = {name: metric for metric in METRICS for name in all_series(metric)}
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
"""Of all panels."""


def parsed(expression: str) -> Any:
    """As Prometheus would read it, with what Grafana fills in filled in. Raises ValueError."""
    return promql_parser.parse(
        expression.replace("$__rate_interval", "1m").replace("$__range", "6h").replace("$tenant", ".*")
    )


def parts(node: Any) -> Iterator[Any]:
    yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        below = getattr(node, name, None)
        if below is not None and type(below).__module__ == "promql_parser":
            yield from parts(below)
    for argument in getattr(node, "args", None) or ():
        yield from parts(argument)


def selected(expression: str) -> dict[str, set[str]]:
    """Labels that are asked for, by series."""
    found: dict[str, set[str]] = {}
    for node in parts(parsed(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
    return found


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(alert["expr"] for alert in ALERTS)])
def test_every_expression_is_promql_over_series_and_labels_that_are_exported(expression: str) -> None:
    asked = selected(expression)
    assert asked
    known: set[str] = set()
    for name, wanted in asked.items():
        assert name in SERIES, f"nothing exports {name}"
        assert wanted <= labels(SERIES[name])
        known |= labels(SERIES[name])
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {word.strip() for word in grouped.split(",")} <= known


@pytest.mark.parametrize("expression", ["sum(rate(nothing_total[5m])", "rate(overspill_refusals_total[", "sum by ("])
def test_what_is_no_promql_is_noticed(expression: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parsed(expression)


def test_every_figure_that_is_exported_is_on_the_dashboard() -> None:
    shown = {SERIES[name].name for expression in EXPRESSIONS for name in selected(expression)}
    assert {metric.name for metric in METRICS} == shown


def test_the_dashboard_in_the_repository_is_the_one_the_code_makes() -> None:
    assert FILE.read_text() == text(), "run `python -m deploy.grafana`"


def test_the_dashboard_has_the_form_grafana_imports() -> None:
    made = json.loads(text())
    assert made["schemaVersion"] >= 36
    assert (made["uid"], made["title"]) == ("overspill", "Overspill")
    assert {(one["name"], one["type"]) for one in made["templating"]["list"]} >= {("datasource", "datasource")}
    assert [panel["title"] for panel in made["panels"] if panel["type"] == "row"] == [
        "Stability",
        "Speed",
        "Cost",
        "Security",
        "The parts",
    ]
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in made["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= WIDTH
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"].endswith(".")
    runbook = RUNBOOKS / alert["annotations"]["runbook_url"].rpartition("/")[2]
    written = runbook.read_text()
    assert f"`{alert['alert']}`" in written
    for part in ("**Symptoms.**", "**What it means.**", "**First commands**", "**Remedies**"):
        assert part in written


def test_every_runbook_is_of_an_alert_and_every_alert_has_its_own() -> None:
    named = [alert["annotations"]["runbook_url"].rpartition("/")[2] for alert in ALERTS]
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)
    assert sorted(named) == sorted(path.name for path in RUNBOOKS.glob("*.md"))


def test_commands_of_runbooks_exist() -> None:
    from overspill.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    for runbook in RUNBOOKS.glob("*.md"):
        for command in re.findall(r"overspill ([a-z]+)", runbook.read_text()):
            assert command in known, (runbook.name, command)


def test_links_between_runbooks_lead_somewhere() -> None:
    for runbook in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", runbook.read_text()):
            assert (RUNBOOKS / target).is_file(), (runbook.name, target)
