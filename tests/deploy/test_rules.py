"""Alert rules: told in words, explained in the documents, tested both ways. What they do is tested by promtool."""

import re
from typing import Any

import pytest
import yaml

from app.observability.metrics import Metrics
from deploy.prometheus import operator
from tests.conftest import ROOT
from tests.deploy.promql import RULES, rules

ALERTS = [rule for rule in rules() if "alert" in rule]
TESTS = ROOT / "deploy" / "prometheus" / "tests"
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def alert_name(rule: dict[str, Any]) -> str:
    return str(rule["alert"])


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them of plain words."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_there_are_alerts_and_no_two_of_one_name() -> None:
    names = [alert_name(rule) for rule in ALERTS]
    assert len(names) == len(set(names)) >= 15


@pytest.mark.parametrize("rule", ALERTS, ids=alert_name)
def test_alert_is_told_and_explained(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"SmartIqa[A-Z]\w+", rule["alert"])
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    # Absolute where Prometheus' configuration says where the page is read.
    assert page == "{{ with $externalLabels.smart_iqa_runbooks }}{{ . }}{{ else }}docs/operations.md{{ end }}"
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(PAGE)


def test_no_runbook_is_left_over() -> None:
    assert set(re.findall(r"^#+ (SmartIqa\w+)$", PAGE, re.M)) == {alert_name(rule) for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=alert_name)
def test_alert_is_tested_firing_and_silent(rule: dict[str, Any]) -> None:
    cases = [
        case
        for file in TESTS.glob("*.yml")
        for group in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for case in group.get("alert_rule_test", [])
        if case["alertname"] == rule["alert"]
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_recorded_series_are_tested() -> None:
    text = (TESTS / "recording.yml").read_text("utf-8")
    untested = {rule["record"] for rule in rules() if "record" in rule and rule["record"] not in text}
    # The two halves of the means and of the shares, which are tested.
    halves = {"model:smartiqa_score_sum:rate1h", "model:smartiqa_score_count:rate1h"}
    assert untested == halves | {"policy:smartiqa_decisions:rate1h", "policy:smartiqa_rejected:rate1h"}


def test_the_rule_for_the_operator_is_made_of_the_files() -> None:
    committed = (ROOT / "deploy/kubernetes/monitoring/prometheusrule.yaml").read_text("utf-8")
    assert committed == operator.text(), "run: make prometheusrule"
    groups = yaml.safe_load(committed)["spec"]["groups"]
    assert [rule for group in groups for rule in group["rules"]] == rules()


def test_prometheus_reads_the_rules() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    assert config["rule_files"] == ["rules/*.yml"]
    assert all(file.parent == ROOT / "deploy" / "prometheus" / "rules" for file in RULES)


def test_every_metric_is_documented() -> None:
    section = PAGE[PAGE.index("\n## Metrics\n") :]
    section = section[: section.index("\n## ", 1)]
    documented = {name.partition("{")[0] for name in re.findall(r"`([a-z_]+(?:\{[a-z_,.]+\})?)`", section)}
    names = set(re.findall(r"^# TYPE smartiqa_(\w+) ", Metrics().render().text.decode(), re.M))
    # Prometheus' library tells when each series began.
    names = {name for name in names if not name.endswith("_created")}
    assert len(names) > 30
    assert names <= documented
