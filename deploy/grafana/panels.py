"""The kinds of panels in the dashboard, built with Grafana's own SDK.

A panel's queries are pairs (expression, legend). In expressions ``@`` stands for the matchers of the selected job and
instance.
"""

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

Query = tuple[str, str]
Level = tuple[float, str]
Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel, table.Panel)

CHOSEN = 'job=~"$job",instance=~"$instance"'
SOURCE = common.DataSourceRef("prometheus", "${datasource}")
FORMATS = prometheus_models.PromQueryFormat


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    most: float | None = None,
    dashed: str = "",
    width: int = 8,
) -> timeseries.Panel:
    """A graph of values over time.

    Args:
        title: What it shows.
        description: How to read it.
        unit: Grafana's name of the unit.
        queries: What is drawn.
        stacked: Whether to stack the values, which then have a meaningful sum.
        most: Upper end of the axis; None for automatic.
        dashed: Pattern of the legends of series to draw dashed, which are for comparison only.
        width: In 24ths of the page.
    """
    panel = _common(timeseries.Panel(), title, description, width, 8, queries).unit(unit).min(0)
    panel.line_width(1).fill_opacity(30 if stacked else 8).show_points(common.VisibilityMode.NEVER)
    panel.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    if dashed:
        style = {"fill": "dash", "dash": [6, 6]}
        panel.override_by_regexp(
            dashed,
            [
                dashboard.DynamicConfigValue("custom.lineStyle", style),
                dashboard.DynamicConfigValue("custom.fillOpacity", 0),
            ],
        )
    return panel


def number(title: str, description: str, unit: str, *queries: Query, levels: Sequence[Level] = ()) -> stat.Panel:
    """The current values, coloured by level, with a graph of their history in the background."""
    panel = _common(stat.Panel(), title, description, 3, 4, queries).unit(unit)
    panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    if len(queries) > 1:
        panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME)
    steps = [dashboard.Threshold(None, "blue" if not levels else "green")]
    steps += [dashboard.Threshold(value, colour) for value, colour in levels]
    return panel.thresholds(dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))


def heat(title: str, description: str, unit: str, buckets: str, width: int = 12) -> heatmap.Panel:
    """A heatmap of a histogram's values over time.

    Args:
        title: What it shows.
        description: How to read it.
        unit: Grafana's name of the values' unit.
        buckets: Name of the buckets, with matchers.
        width: In 24ths of the page.
    """
    query = f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}"
    panel = _common(heatmap.Panel(), title, description, width, 8, [query], FORMATS.HEATMAP)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).hide_legend()
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    return panel.color(
        heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Spectral").steps(64)
    )


def rows(title: str, description: str, query: Query, hidden: Sequence[str], width: int = 12) -> table.Panel:
    """A table of the labels of series, without some."""
    panel = _common(table.Panel(), title, description, width, 8, [query], FORMATS.TABLE)
    names = {"Time": True, "Value": True, "__name__": True} | dict.fromkeys(hidden, True)
    return panel.with_transformation(dashboard.DataTransformerConfig("organize", options={"excludeByName": names}))


def _common(
    panel: P,
    title: str,
    description: str,
    width: int,
    height: int,
    queries: Sequence[Query],
    form: prometheus_models.PromQueryFormat = FORMATS.TIME_SERIES,
) -> P:
    panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    for number, (expression, legend) in enumerate(queries):
        target = prometheus.Dataquery().datasource(SOURCE).ref_id(chr(ord("A") + number)).format(form)
        target.expr(expression.replace("@", CHOSEN)).legend_format(legend)
        panel.with_target(target.instant() if form is FORMATS.TABLE else target.range())
    return panel
