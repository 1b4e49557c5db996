"""The Grafana dashboard: ``python -m deploy.grafana.dashboard > deploy/grafana/dashboards/smart-iqa.json``.

It uses only the service's own metrics, so that it works without the recording rules.
"""

import json
import sys

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.panels import CHOSEN, SOURCE
from deploy.grafana.rows_requests import batches, glance, latency, queue, traffic
from deploy.grafana.rows_scores import decisions, process, scores


def variable(name: str, label: str, query: str) -> builders.QueryVariable:
    """A dashboard variable with the values of a label; all are selected at first."""
    made = builders.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return made.multi(True).include_all(True).all_value(".*").current(models.VariableOption(True, "All", "$__all"))


def build() -> models.Dashboard:
    """Build the dashboard."""
    made = builders.Dashboard("smart-iqa").uid("smart-iqa").tags(["smart-iqa"])
    made.description("Image quality scores: traffic, time, batches, queue, scores, models.")
    made.time("now-6h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.with_variable(variable("job", "Job", "label_values(smartiqa_ready, job)"))
    made.with_variable(variable("instance", "Instance", 'label_values(smartiqa_ready{job=~"$job"}, instance)'))
    made.with_variable(variable("model", "Model", f"label_values(smartiqa_model_info{{{CHOSEN}}}, name)"))
    firing = 'ALERTS{alertname=~"SmartIqa.*",alertstate="firing",job=~"$job"}'
    made.annotation(
        builders.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red").expr(firing)
    )
    count = 0
    for title, panels in (
        ("At a glance", glance()),
        ("Traffic", traffic()),
        ("Time", latency()),
        ("Batches and devices", batches()),
        ("Queue, drops and memory of scores", queue()),
        ("Scores", scores()),
        ("Decisions", decisions()),
        ("Processes and models", process()),
    ):
        made.with_row(builders.Row(title).id(count := count + 1))
        for panel in panels:
            made.with_panel(panel.id(count := count + 1))
    return made.build()


def text() -> str:
    """The dashboard as JSON, as in the file."""
    return json.dumps(build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
