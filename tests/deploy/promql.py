"""Reads PromQL, to hold it against the series that there are."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "smart-iqa.json"
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))

Series = Mapping[str, Sequence[Mapping[str, str]]]
"""Labels of all series, by name."""
TARGET = {"job", "instance"}
"""Labels that Prometheus adds to whatever it scrapes."""
OWN: Series = {"up": [{}], "ALERTS": [{"alertname": "SmartIqaDown", "alertstate": "firing"}]}
"""Series of Prometheus itself."""


def rules() -> list[dict[str, Any]]:
    """All rules, as the files hold them."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """All panels of the committed dashboard."""
    return list(json.loads(DASHBOARD.read_text("utf-8"))["panels"])


def fill(expression: str) -> str:
    """Put values in the place of the dashboard's variables."""
    filled = expression.replace("$__rate_interval", "1m")
    return re.sub(r"\$(job|instance|model)\b", ".*", filled)


def exposed(text: str) -> Series:
    """The series of a scrape."""
    series: dict[str, list[Mapping[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(sample.labels)
    return series


def complaints(expression: str, series: Series, recorded: Iterable[str]) -> Iterator[str]:
    """Find names, labels and values in an expression that no series has.

    Args:
        expression: Whose variables are filled.
        series: What the service exposes.
        recorded: Names that recording rules make; their labels are not known.
    """
    made = set(recorded)
    for node in _nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector) and node.name not in made:
            yield from _of_selector(node, {**series, **OWN})
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            below = [one for one in _nodes(node.expr) if isinstance(one, promql_parser.VectorSelector)]
            if not made & {str(one.name) for one in below}:
                for label in set(node.modifier.labels) - _labels(below, series):
                    yield f"no label {label} to aggregate by"


def _of_selector(node: promql_parser.VectorSelector, series: Series) -> Iterator[str]:
    if node.name not in series:
        yield f"no series {node.name}"
        return
    for matcher in node.matchers.matchers:
        values = {labels[matcher.name] for labels in series[str(node.name)] if matcher.name in labels}
        if matcher.name in TARGET:
            continue
        if not values:
            yield f"no label {matcher.name} in {node.name}"
        # Every alternative on its own: one of them may be misspelled.
        for wanted in matcher.value.split("|"):
            if not any(re.fullmatch(wanted, value) for value in values):
                yield f"no {matcher.name}={wanted!r} in {node.name}"


def _labels(selectors: Iterable[promql_parser.VectorSelector], series: Series) -> set[str]:
    return TARGET.union(*(labels for one in selectors for labels in series.get(str(one.name), [])))


def _nodes(expression: promql_parser.Expr) -> list[promql_parser.Expr]:
    nodes: list[promql_parser.Expr] = []
    promql_parser.walk(expression, nodes.append)
    return nodes
