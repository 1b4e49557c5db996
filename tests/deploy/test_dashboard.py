"""The Grafana dashboard: as it is made, and as Grafana wants it."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from deploy.grafana import dashboard
from tests.conftest import ROOT
from tests.deploy.promql import DASHBOARD, fill, panels

COMMITTED: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
DRAWN = [panel for panel in panels() if panel["type"] != "row"]
GRAFANA = ROOT / "deploy" / "grafana"


def test_the_committed_file_is_what_the_program_makes() -> None:
    assert DASHBOARD.read_text("utf-8") == dashboard.text(), "run: make dashboard"


def test_grafanas_own_types_read_all_of_it() -> None:
    register_default_plugins()
    # What the types do not know is lost on the way: a misspelled option would be missed here.
    back = json.loads(json.dumps(models.Dashboard.from_json(COMMITTED), cls=JSONEncoder))
    assert back == COMMITTED


def test_head() -> None:
    assert (COMMITTED["uid"], COMMITTED["title"], COMMITTED["schemaVersion"]) == ("smart-iqa", "smart-iqa", 41)
    # An id is the data base's; with one, an import replaces whatever has it.
    assert "id" not in COMMITTED
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    titles = [(panel["title"], panel["type"]) for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_variables() -> None:
    source, *others = COMMITTED["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert [variable["name"] for variable in others] == ["job", "instance", "model"]
    for variable in others:
        assert (variable["datasource"], variable["multi"], variable["includeAll"]) == (SOURCE, True, True)


def test_panels_lie_beside_each_other_on_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert cells
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: f"{panel['id']} {panel['title']}")
def test_panel(panel: dict[str, Any]) -> None:
    assert re.match(r"[A-Z]", panel["title"])
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        # Every query is of the job and the instances that the reader has chosen.
        selectors = re.findall(r"smartiqa_\w+(\{[^}]*\})?", target["expr"])
        assert selectors
        assert all('job=~"$job",instance=~"$instance"' in selector for selector in selectors), target["expr"]
        assert "$" not in fill(target["expr"]), "a variable that the dashboard does not have"
    if panel["type"] in ("timeseries", "stat"):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    if panel["type"] != "table":
        assert all(target["legendFormat"] for target in panel["targets"])


def test_annotations_are_the_alerts() -> None:
    (annotation,) = COMMITTED["annotations"]["list"]
    assert annotation["datasource"] == SOURCE
    assert "ALERTS" in annotation["expr"]


def test_provisioning_fits_compose() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/smart-iqa.yml").read_text("utf-8"))["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
