"""What ``score``, ``score-bulk`` and ``evaluate`` share."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cli.benchmark.command import app as benchmark
from cli.bulk import rows
from cli.main import app, main
from cli.pictures.picture_ref import PictureRef
from cli.policy import app as policy
from cli.score import outputs
from cli.scoring import parquet, stream
from cli.scoring.scorer import load_scorer, score_settings
from model.defects import DEFECTS
from model.inference import autotune, processors
from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from tests.cli.brightness import Brightness, folder_of
from tests.cli.conftest import Bulk, Score
from tests.conftest import ROOT, encode, photo
from tests.training.layouts import write_csv

SETTINGS = {
    "model": "brightness sha256:" + "0" * 64,
    "contract": Brightness.checkpoint.contract.id,
    "crops": 1,
    "precision": "fp32",
    "device": "cpu",
}
"""As journals and jobs hold them. Other names or values would end the runs that users have begun."""


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of ``calibrate``, which measures nothing here and sets another number of threads."""
    calls: list[dict[str, Any]] = []

    def calibrate(engine: object, digest: str, *, threads: int) -> None:
        calls.append({"engine": engine, "digest": digest, "threads": threads, "before": torch.get_num_threads()})
        torch.set_num_threads(3)

    monkeypatch.setattr(autotune, "autotune", calibrate)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return calls


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scorer_on(device: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, dict[str, str]]]:
    """Have ``Scorer.load`` give an engine on a device; its calls."""
    calls: list[tuple[object, dict[str, str]]] = []

    def load(folder: object, **options: str) -> object:
        calls.append((folder, options))
        return SimpleNamespace(engine=SimpleNamespace(device=device), model=SimpleNamespace(digest="d"))

    monkeypatch.setattr(Scorer, "load", load)
    return calls


def test_an_engine_on_a_cpu_is_calibrated(calibrated: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = scorer_on("cpu", monkeypatch)
    scorer = load_scorer(device="cpu", precision="int8")
    assert loaded == [(DEFAULT_CHECKPOINT, {"device": "cpu", "precision": "int8"})]
    assert [(call["engine"], call["digest"], call["threads"]) for call in calibrated] == [(scorer.engine, "d", 0)]


def test_a_number_of_threads_that_the_user_set_stays(
    calibrated: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer_on("cpu", monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    load_scorer()
    assert calibrated[0]["threads"] == 2


def test_threads_that_are_asked_for_stay(calibrated: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer_on("cpu", monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    load_scorer(threads=1)
    assert [(call["threads"], call["before"]) for call in calibrated] == [(1, 1)]


def test_threads_are_as_many_as_the_process_may_use(
    calibrated: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer_on("cpu", monkeypatch)
    monkeypatch.setattr(processors, "usable", lambda: 1)
    torch.set_num_threads(2)
    load_scorer()
    assert [(call["threads"], call["before"]) for call in calibrated] == [(0, 1)]


@pytest.mark.parametrize(("set_", "waits"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_they_are_to_spin(set_: dict[str, str], waits: str) -> None:
    show = (
        "import os, sys; from cli.main import main; early = 'torch' in sys.modules\n"
        "try: main()\n"
        "finally: print(early, os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | set_
    command = [sys.executable, "-c", show, "--version"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    # It is read when torch is imported.
    assert done.stdout.splitlines()[-1] == f"False {waits}"


def test_every_command_that_scores_takes_threads() -> None:
    commands = {command.name or "": command.callback for command in app.registered_commands}
    commands |= {
        f"{name} {command.name}": command.callback
        for name, group in (("benchmark", benchmark), ("policy", policy))
        for command in group.registered_commands
    }
    scoring = ("serve", "score", "score-bulk", "compare", "pick", "calibrate", "evaluate")
    for name in (*scoring, "benchmark behaviour", "policy try"):
        assert "threads" in inspect.signature(commands[name] or print).parameters, name


def test_an_engine_on_a_gpu_is_not_calibrated(
    calibrated: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer_on("cuda:1", monkeypatch)
    load_scorer(Path("folder"))
    assert calibrated == []


def test_evaluate_calibrates_each_checkpoint_from_the_same_threads(
    calibrated: list[dict[str, Any]],
    checkpoint_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is fastest for one must not decide the last digits of the next."""
    for index in range(2):
        (tmp_path / f"{index}.jpg").write_bytes(encode(photo(seed=index)))
    write_csv(tmp_path / "own.csv", ("path", "mos"), [("0.jpg", 1), ("1.jpg", 2)])
    torch.set_num_threads(2)
    folders = [str(checkpoint_folder)] * 2
    monkeypatch.setattr(sys, "argv", ["smart-iqa", "evaluate", *folders, "--root", str(tmp_path / "own.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "SRCC" in capsys.readouterr().out
    assert [call["before"] for call in calibrated] == [2, 2]


def test_scores_are_those_of_an_engine_that_is_not_calibrated(
    scorer: Scorer, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pictures = [encode(photo(seed=seed)) for seed in range(3)]
    calibrated = load_scorer(checkpoint_folder, device="cpu", precision="fp32")
    assert list(calibrated.score_many(pictures)) == list(scorer.score_many(pictures))


def test_settings_leave_out_which_gpu_it_is(scorer: Scorer) -> None:
    settings = score_settings(scorer.model, scorer.checkpoint.contract, "auto", "cuda:1", "bf16")
    assert (settings["device"], settings["crops"]) == ("cuda", "auto")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder_of(Path("photos"), a=10, b=20, c=30)


def interrupted() -> Brightness:
    return Brightness(2, lambda: os.kill(os.getpid(), signal.SIGINT))


def test_a_journal_holds_the_settings_in_their_form(photos: Path, score: Score) -> None:
    score(photos, "-o", "scores.csv", scorer=interrupted())
    first = Path("scores.csv.part").read_text().splitlines()[0]
    found = {"inputs": [os.path.abspath(photos)], "exclude": [], "default_excludes": True}
    assert first == json.dumps({"smart-iqa score": 1, **found, **SETTINGS})
    assert "going on after 2 pictures" in score(photos, "-o", "scores.csv").stderr


def test_a_job_holds_the_settings_in_their_form(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out", "--unit", "1", scorer=interrupted())
    found = {"exclude": [], "default_excludes": True, "lists": {}}
    settings = {"inputs": [os.path.abspath(photos)], "column": None, "unit": 1, **found, **SETTINGS}
    assert json.dumps(json.loads(Path("out/_job/job.json").read_text())["settings"]) == json.dumps(settings)
    bulk(photos, "out", "--unit", "1")
    assert json.dumps(json.loads(Path("out/_SUCCESS").read_text())) == json.dumps(
        {"rows": 3, "errors": 0, "units": 3, **SETTINGS}
    )


TYPES = {
    "path": "string",
    **dict.fromkeys(("score", "low", "high", *DEFECTS), "double"),
    "raw_score": "double",
    "std": "double",
    "stderr": "double",
    "grade": "string",
    "percentile": "double",
    "stage_weights": "list<item: double>",
    "crops": "int32",
    "width": "int32",
    "height": "int32",
    "format": "string",
    "sha256": "string",
    "warnings": "list<item: string>",
    "decision": "string",
    "reasons": "list<item: string>",
    "policy": "string",
    "error": "string",
}


@pytest.mark.parametrize("columns", [outputs.COLUMNS, rows.COLUMNS])
def test_columns_have_their_types(columns: tuple[str, ...]) -> None:
    schema = parquet.schema(columns)
    assert [(field.name, str(field.type)) for field in schema] == [(name, TYPES[name]) for name in columns]


RECORDS: list[dict[str, Any]] = [
    {"path": "a\udcff.jpg", "score": 1.5, "image": {"width": 3, "height": 2}, "warnings": ["grayscale"]},
    {"path": "b.jpg", "error": "broken"},
    {"path": "c.jpg", "score": 2.5, "stage_weights": [0.25, 0.75], "crops": 4, "warnings": []},
]


def test_files_of_score_are_snappy_with_a_group_of_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "GROUP_ROWS", 2)
    with outputs.to_file(tmp_path / "scores.parquet") as output:
        for record in RECORDS:
            output.add(record)
    table = parquet.table(RECORDS, outputs.COLUMNS)
    with pq.ParquetWriter(tmp_path / "plain.parquet", table.schema) as plain:
        plain.write_table(table[:2])
        plain.write_table(table[2:])
    assert (tmp_path / "scores.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()


def test_files_of_bulk_scoring_are_zstd_and_do_not_show_how_they_were_put_together() -> None:
    whole = rows.table(RECORDS)
    expected = pa.BufferOutputStream()
    pq.write_table(whole, expected, compression="zstd")
    parts = pa.concat_tables([rows.table(RECORDS[:1]), rows.table(RECORDS[1:])])
    assert (
        rows.to_parquet(whole).to_pybytes() == rows.to_parquet(parts).to_pybytes() == expected.getvalue().to_pybytes()
    )
    assert rows.count_rows(pa.BufferReader(rows.to_parquet(parts))) == (3, 1)


def test_rows_of_records() -> None:
    first, broken, last = rows.table(RECORDS).to_pylist()
    assert (first["path"], first["width"], first["warnings"]) == ("a\N{REPLACEMENT CHARACTER}.jpg", 3, ["grayscale"])
    assert {name for name, value in broken.items() if value is not None} == {"path", "error"}
    assert (last["stage_weights"], last["crops"], last["warnings"]) == ([0.25, 0.75], 4, [])


def test_intervals_and_defects_have_columns(whole_folder: Path, tmp_path: Path) -> None:
    from model.scorer import Scorer

    scorer = Scorer.load(whole_folder, device="cpu", precision="fp32")
    data = encode(photo(900, 700))
    (record,) = stream.records([PictureRef("a.jpg", lambda: data)], scorer, None)
    score = scorer.score(data)
    assert score.interval is not None
    with outputs.to_file(tmp_path / "scores.parquet") as output:
        output.add(record)
    (row,) = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert (row["low"], row["high"]) == (score.interval.low, score.interval.high)
    assert {name: row[name] for name in DEFECTS} == {name: one.severity for name, one in score.defects.items()}
    (bulk,) = rows.table([{"path": "a.jpg", **rows.fields(score)}]).to_pylist()
    assert {name: bulk[name] for name in ("low", "high", *DEFECTS)} == {
        name: row[name] for name in ("low", "high", *DEFECTS)
    }
    assert outputs.likely(record) == f"{score.interval.low:.0f} to {score.interval.high:.0f}"


def test_people_are_told_the_severe_defects_first() -> None:
    defects = {"noise": 0.5, "defocus": 0.92, "motion_blur": 0.49, "colour_cast": 0.6}
    record = {"defects": {name: {"severity": severity} for name, severity in defects.items()}}
    assert outputs.flagged(record) == "defocus 0.9, colour cast 0.6, noise 0.5"
    assert outputs.flagged({}) == ""
    assert outputs.likely({"stderr": 1.26}) == "± 1.3"
    assert outputs.likely({"stderr": None}) == ""
