"""The reader of PromQL notices what is wrong: else the tests that use it could not fail."""

import pytest

from tests.deploy.promql import complaints, exposed, fill

SERIES = exposed(
    "# TYPE iqa_answers_total counter\n"
    'iqa_answers_total{route="/score",code="200"} 1\n'
    'iqa_answers_total{route="/attention",code="503"} 1\n'
    "# TYPE iqa_ready gauge\n"
    "iqa_ready 1\n"
)


@pytest.mark.parametrize(
    "expression",
    [
        'sum by (job, route) (rate(iqa_answers_total{route=~"/score|/attention",code=~"5.."}[5m]))',
        "max by (instance) (iqa_ready) == 0",
        "job:answers:rate5m > 1 and on (job) up == 0",
        fill('sum by (code)(increase(iqa_answers_total{job=~"$job"}[$__rate_interval]))'),
    ],
)
def test_sound(expression: str) -> None:
    assert not list(complaints(expression, SERIES, ["job:answers:rate5m"]))


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("iqa_answer_total", "no series iqa_answer_total"),
        ("rate(iqa_answers_total[5m]) / job:answers:rate1m", "no series job:answers:rate1m"),
        ('iqa_answers_total{rout="/score"}', "no label rout in iqa_answers_total"),
        ('iqa_answers_total{route=~"/score|/attenton"}', "no route='/attenton' in iqa_answers_total"),
        ('iqa_answers_total{code=~"4.."}', "no code='4..' in iqa_answers_total"),
        ("sum by (device) (iqa_answers_total)", "no label device to aggregate by"),
    ],
)
def test_unsound(expression: str, complaint: str) -> None:
    assert complaint in list(complaints(expression, SERIES, ["job:answers:rate5m"]))
