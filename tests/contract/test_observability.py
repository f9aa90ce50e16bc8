"""Alerts and dashboards speak only of what the code measures, and each alert is explained."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import chassis

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "queue_service", "session_service", "ratelimit_service")
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
SCRAPE = ROOT / "deploy" / "prometheus" / "scrape.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "mainstay.json"
RUNBOOKS = ROOT / "docs" / "runbooks"

# What Prometheus itself adds to every scrape.
FROM_PROMETHEUS = {"up": frozenset[str]()}
TARGET_LABELS = {"job", "instance"}
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
    "info": ("_info",),
}
FUNCTIONS = {
    "absent", "and", "avg", "by", "bool", "count", "group_left", "group_right",
    "histogram_quantile", "ignoring", "increase", "max", "min", "offset", "on", "or", "rate", "sum",
    "time", "unless", "without",
}  # fmt: skip
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
RANGE = re.compile(r"\[[^\]]*\]")
WORD = re.compile(r"(?<![\w.])[a-zA-Z_:][a-zA-Z0-9_:]*")


def import_everything_measured() -> None:
    for module in pkgutil.walk_packages(chassis.__path__, "chassis."):
        importlib.import_module(module.name)
    for service in SERVICES:
        importlib.import_module(f"{service}.metrics")


def declared() -> dict[str, frozenset[str]]:
    """Series name → its labels, as this process would expose them."""
    import_everything_measured()
    found = dict(FROM_PROMETHEUS)
    collectors: Iterable[Any] = REGISTRY._collector_to_names
    for collector in collectors:
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.describe() if hasattr(collector, "describe") else ():
            names = [family.name, *(family.name + each for each in SUFFIXES.get(family.type, ()))]
            more = {"le"} if family.type == "histogram" else set()
            found |= dict.fromkeys(names, labels | more)
        if not hasattr(collector, "describe"):
            found |= {sample.name: frozenset(sample.labels) for sample in collected(collector)}
    # Linux alone has them, and only there do these processes run for others.
    return found | {"process_resident_memory_bytes": frozenset()}


def collected(collector: Any) -> Iterator[Any]:
    for family in collector.collect():
        yield from family.samples


def expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def without_strings(expression: str) -> str:
    return RANGE.sub("", STRING.sub('""', expression))


def metrics_of(expression: str) -> set[str]:
    bare = GROUPING.sub(" ", re.sub(r"\{[^}]*\}", " ", without_strings(expression)))
    return set(WORD.findall(bare)) - FUNCTIONS


def labels_of(expression: str) -> Iterator[tuple[str, str]]:
    """(metric, label) for every label that a selector asks of a metric."""
    for metric, matchers in SELECTOR.findall(without_strings(expression)):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            yield metric, label


def grouped_by(expression: str) -> set[str]:
    inside = GROUPING.findall(without_strings(expression))
    return {label.strip() for each in inside for label in each.split(",") if label.strip()}


EXPRESSIONS = list(expressions())
NAMES = [f"{number} {name}" for number, (name, _) in enumerate(EXPRESSIONS)]


@pytest.fixture(scope="module")
def known() -> dict[str, frozenset[str]]:
    return declared()


@pytest.mark.parametrize(("_name", "expression"), EXPRESSIONS, ids=NAMES)
def test_every_metric_of_an_expression_exists(
    known: dict[str, frozenset[str]], _name: str, expression: str
) -> None:
    assert metrics_of(expression)
    assert metrics_of(expression) <= set(known)


@pytest.mark.parametrize(("_name", "expression"), EXPRESSIONS, ids=NAMES)
def test_every_label_of_an_expression_is_one_that_its_metric_has(
    known: dict[str, frozenset[str]], _name: str, expression: str
) -> None:
    for metric, label in labels_of(expression):
        assert label in known[metric] | TARGET_LABELS, f"{metric} has no label {label}"
    everywhere = frozenset().union(*(known[name] for name in metrics_of(expression)))
    assert grouped_by(expression) <= everywhere | TARGET_LABELS


def test_a_name_that_nobody_declares_is_noticed(known: dict[str, frozenset[str]]) -> None:
    assert metrics_of('sum by (job) (rate(gateway_acepts_total{road="bus"}[5m])) > 0') == {
        "gateway_acepts_total"
    }
    assert not metrics_of("gateway_acepts_total") <= set(known)


def test_no_label_of_ours_can_hold_what_callers_choose(known: dict[str, frozenset[str]]) -> None:
    from chassis.metrics import FORBIDDEN_LABELS

    assert {name for name, labels in known.items() if labels & FORBIDDEN_LABELS} == set()


def test_every_job_that_an_expression_names_is_scraped() -> None:
    scraped = {each["job_name"] for each in yaml.safe_load(SCRAPE.read_text())["scrape_configs"]}
    for name, expression in EXPRESSIONS:
        for given in re.findall(r'job=~?"([^"]*)"', expression):
            assert set(given.split("|")) <= scraped, name


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(names)
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        text = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        assert text.startswith(f"# {rule['alert']}\n")
        assert "## Look" in text
        assert "## Do" in text


def test_the_metrics_that_runbooks_speak_of_exist(known: dict[str, frozenset[str]]) -> None:
    ours = re.compile(
        r"`[^`]*?\b((?:http|loop|bus|outbox|queue|gateway|ratelimit|session|process)_\w+?"
        r"(?:_total|_seconds|_bytes|_count|_bucket|_jobs|_waiting|_up|_flight))\b"
    )
    for path in RUNBOOKS.glob("*.md"):
        assert set(ours.findall(path.read_text())) <= set(known), path.name


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert dashboard["uid"] == "mainstay"
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [each["name"] for each in dashboard["templating"]["list"]] == ["datasource"]
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
