"""PromQL fragments that the dashboard's rows share; for ``@`` see ``panels``."""

from deploy.grafana.panels import Query

ROUTES = 'route=~"/score|/score/batch|/attention"'
"""Matches the routes that score pictures; leaves out probes, scrapes and the page."""
ONE = 'route=~"/score|/attention"'
"""Matches the routes with one picture; the time of a batch depends on its number of pictures."""
MODEL = 'model=~"$model"'
RATE = "[$__rate_interval]"


def quantiles(buckets: str, *shares: float, by: str = "", legend: str = "") -> list[Query]:
    """Queries for quantiles of a histogram, optionally by further labels."""
    rates = f"sum by ({by}le) (rate({buckets}{RATE}))"
    return [(f"histogram_quantile({share:g}, {rates})", f"{legend}p{100 * share:g}") for share in shares]


def share(part: str, whole: str, window: str = RATE, by: str = "") -> str:
    """Query for the ratio of two rates, ``part`` to ``whole``."""
    return f"sum{by}(rate({part}{window})) / sum{by}(rate({whole}{window}))"


def mean(histogram: str, matchers: str = "@", window: str = RATE, by: str = "") -> str:
    """Query for the mean of a histogram's values."""
    total, count = (f"sum{by}(rate(smartiqa_{histogram}_{part}{{{matchers}}}{window}))" for part in ("sum", "count"))
    return f"{total} / {count}"
