"""Pieces of PromQL that the dashboard's rows share; for ``@`` see ``panels``."""

from deploy.grafana.panels import Query

ROUTES = 'route=~"/score|/score/batch|/attention"'
"""Requests for scores: probes, scrapes and the page are left out."""
ONE = 'route=~"/score|/attention"'
"""Those of one picture: several take as long as they are many."""
MODEL = 'model=~"$model"'
RATE = "[$__rate_interval]"


def quantiles(buckets: str, *shares: float, by: str = "", legend: str = "") -> list[Query]:
    """Ask for quantiles of a histogram, by further labels if need be."""
    rates = f"sum by ({by}le) (rate({buckets}{RATE}))"
    return [(f"histogram_quantile({share:g}, {rates})", f"{legend}p{100 * share:g}") for share in shares]


def share(part: str, whole: str, window: str = RATE, by: str = "") -> str:
    """Ask which share of a rate another one is."""
    return f"sum{by}(rate({part}{window})) / sum{by}(rate({whole}{window}))"


def mean(histogram: str, matchers: str = "@", window: str = RATE, by: str = "") -> str:
    """Ask for the mean of a histogram's values."""
    total, count = (f"sum{by}(rate(smartiqa_{histogram}_{part}{{{matchers}}}{window}))" for part in ("sum", "count"))
    return f"{total} / {count}"
