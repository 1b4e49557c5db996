"""Converts the Prometheus rules into a PrometheusRule resource for the Prometheus operator.

``python -m deploy.prometheus.operator > deploy/kubernetes/monitoring/prometheusrule.yaml``
"""

import sys
from pathlib import Path

import yaml

RULES = Path(__file__).parent / "rules"
HEAD = "# Made of deploy/prometheus/rules by: make prometheusrule\n"


def text() -> str:
    """All rules as one PrometheusRule, in YAML."""
    files = [yaml.safe_load(file.read_text("utf-8")) for file in sorted(RULES.glob("*.yml"))]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "smart-iqa", "labels": {"app.kubernetes.io/name": "smart-iqa"}},
        "spec": {"groups": [group for file in files for group in file["groups"]]},
    }
    return HEAD + str(yaml.safe_dump(rule, sort_keys=False, width=160))


if __name__ == "__main__":
    sys.stdout.write(text())
