"""``smart-iqa policy``, and ``--policy`` of ``score`` and ``score-bulk``; brightness stands for quality."""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.score.journal import SUFFIX
from model.policies import SHIPPED
from tests.cli.brightness import folder_of
from tests.cli.conftest import Bulk, Score, Told
from tests.cli.test_scoring import interrupted

POLICIES = """
[bright]
[[bright.rules]]
code = "dark"
rule = "reject when score < 40"
message = "Only {value:.0f} of 100: use a lamp."

[[bright.rules]]
code = "dim"
rule = "review when score < 70"
"""
SEVERAL = "".join(f'[{name}]\n[[{name}.rules]]\ncode = "x"\nrule = "review when score > 4"\n' for name in "ab")


@pytest.fixture
def command(in_process: Callable[..., Told]) -> Callable[..., Told]:
    return in_process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "bright.toml").write_text(POLICIES, encoding="utf-8")
    return tmp_path / "bright.toml"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures, of 20, 50 and 90 points."""
    return folder_of(tmp_path / "photos", a=20, b=50, c=90)


def test_score_decides_and_ends_with_a_status_of_its_own(score: Score, file: Path, photos: Path) -> None:
    told = score(photos, "--policies", file, "--policy", "bright", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert [(row["decision"], row["reasons"]) for row in rows] == [
        ("reject", "dark"),
        ("review", "dim"),
        ("accept", ""),
    ]
    assert told.status == 3
    assert "bright: reject 1: dark 1" in told.stderr
    assert "bright: accept 1" in told.stderr
    assert score(photos / "b.png", photos / "c.png", "--policies", file, "--policy", "bright").status == 0


def test_a_picture_that_fails_counts_for_more_than_one_that_is_rejected(score: Score, file: Path, photos: Path) -> None:
    (photos / "d.png").write_bytes(b"no picture")
    assert score(photos, "--policies", file, "--policy", "bright").status == 1


def test_json_lines_hold_the_decision_of_the_service(score: Score, file: Path, photos: Path) -> None:
    told = score(photos / "a.png", "--policies", file, "--policy", "bright", "-f", "jsonl")
    decision = json.loads(told.stdout)["decision"]
    assert (decision["outcome"], decision["policy"]) == ("reject", "bright")
    (reason,) = decision["reasons"]
    assert (reason["code"], reason["message"]) == ("dark", "Only 20 of 100: use a lamp.")
    assert "decision" not in json.loads(score(photos / "a.png", "-f", "jsonl").stdout)


def test_reasons_in_another_language(score: Score, file: Path, photos: Path) -> None:
    file.with_name("bright.de.toml").write_text('[bright]\ndark = "Nur {value:.0f}."\n', encoding="utf-8")
    told = score(photos / "a.png", "--policies", file, "--policy", "bright", "--language", "de-AT", "-f", "jsonl")
    assert json.loads(told.stdout)["decision"]["reasons"][0]["message"] == "Nur 20."


def test_table_report_and_parquet_show_it(score: Score, file: Path, photos: Path, tmp_path: Path) -> None:
    html, out = tmp_path / "report.html", tmp_path / "scores.parquet"
    told = score(photos, "--policies", file, "--policy", "bright", "-f", "table", "--html", html, "--out", out)
    assert "reject: dark" in told.stdout
    page = html.read_text(encoding="utf-8")
    assert "Only 20 of 100: use a lamp." in page
    assert 'class="decision review"' in page
    assert "Decisions are by the policy bright, version sha256:" in page
    assert "<dt>reject</dt><dd>1</dd>" in page
    # A browser takes only the style that was hashed.
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in page
    table = pq.read_table(out).to_pylist()
    assert [(row["decision"], row["reasons"]) for row in table] == [
        ("reject", ["dark"]),
        ("review", ["dim"]),
        ("accept", []),
    ]


def test_a_run_goes_on_only_with_the_same_policy(score: Score, file: Path, photos: Path, tmp_path: Path) -> None:
    wanted = (photos, "--policies", file, "--policy", "bright", "--out", tmp_path / "scores.csv")
    score(*wanted, scorer=interrupted())
    assert (tmp_path / f"scores.csv{SUFFIX}").exists()
    file.write_text(POLICIES.replace("< 40", "< 30"), encoding="utf-8")
    told = score(*wanted)
    assert told.status == 2
    assert "was begun with policy bright sha256:" in told.stderr
    told = score(photos, "--out", tmp_path / "scores.csv")
    assert (told.status, "not None" in told.stderr) == (2, True)
    file.write_text(POLICIES, encoding="utf-8")
    assert score(*wanted).status == 3


def test_bulk_rows_have_it_too(bulk: Bulk, file: Path, photos: Path, tmp_path: Path) -> None:
    assert bulk(photos, tmp_path / "out", "--policies", file, "--policy", "bright").status == 0
    rows = pq.read_table(tmp_path / "out" / "scores-000000000000.parquet").to_pylist()
    assert [(row["decision"], row["reasons"]) for row in rows] == [
        ("reject", ["dark"]),
        ("review", ["dim"]),
        ("accept", []),
    ]
    summary = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert summary["policy"].startswith("bright sha256:")


@pytest.mark.parametrize("name", ["score", "score-bulk"])
def test_wrong_policies_are_refused_before_anything_is_scored(
    name: str, command: Callable[..., Told], file: Path, photos: Path, tmp_path: Path
) -> None:
    inputs = (photos, tmp_path / "out") if name == "score-bulk" else (photos,)
    unknown = command(name, *inputs, "--policies", file, "--policy", "brigt")
    assert (unknown.status, "did you mean bright?" in " ".join(unknown.stderr.split())) == (2, True)
    unnamed = command(name, *inputs, "--policies", file)
    assert (unnamed.status, "say which one with --policy" in unnamed.stderr) == (2, True)
    # Brightness finds no defects.
    lacking = command(name, *inputs, "--policy", "marketplace")
    assert (lacking.status, "marketplace asks for" in " ".join(lacking.stderr.split())) == (2, True)
    file.write_text(POLICIES.replace("score < 40", "score < 140 and score > 120"), encoding="utf-8")
    broken = command(name, *inputs, "--policies", file, "--policy", "bright")
    assert (broken.status, "line 5, bright.rules[0].rule" in broken.stderr) == (2, True)
    assert not [*tmp_path.glob("out/_job/job.json")]


def test_check_lists_rules_or_names_the_line(command: Callable[..., Told], file: Path) -> None:
    told = command("policy", "check", file)
    assert told.status == 0
    assert "reject when score < 40" in told.stdout
    assert "accept otherwise" in told.stdout
    file.write_text(POLICIES.replace("reject when", "rejects when"), encoding="utf-8")
    told = command("policy", "check", file)
    assert told.status == 2
    assert "bright.toml, line 5, bright.rules[0].rule: 'rejects' is no outcome; did you mean reject?" in told.stderr


def test_show_writes_a_file_to_begin_with(command: Callable[..., Told], tmp_path: Path) -> None:
    told = command("policy", "show")
    assert told.stdout == SHIPPED.read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(told.stdout, encoding="utf-8")
    assert command("policy", "check", tmp_path / "mine.toml").status == 0


def test_try_shows_what_would_be_decided(
    command: Callable[..., Told], file: Path, photos: Path, tmp_path: Path
) -> None:
    html = tmp_path / "try.html"
    told = command("policy", "try", file, photos, "--html", html)
    assert told.status == 3
    assert "review: dim" in told.stdout
    assert "bright: review 1: dim 1" in told.stderr
    assert "use a lamp" in html.read_text(encoding="utf-8")
    file.write_text(SEVERAL, encoding="utf-8")
    told = command("policy", "try", file, photos)
    assert (told.status, "there are a, b" in told.stderr) == (2, True)
    assert command("policy", "try", file, photos, "--policy", "b").status == 0
