"""The figures of a run, an evaluation or a sweep, and one HTML page that shows them."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from model import checkpoint, images
from model.maps.overlay import shrink
from training import run, sweep_results
from training.evaluator import EVALUATION, PREDICTIONS
from training.figures import activity, agreement, comparison, curves, stages, style
from training.sweep_results import SWEEP

FIGURES = "figures"
PAGE = "report.html"
TEMPLATE = Path(__file__).with_name("report.html")
WORST = 12
"""Pictures in the gallery of largest errors."""

Section = Mapping[str, Any]
"""A part of the page: its ``kind``, and what ``report.html`` shows of that kind."""


def make(folder: Path) -> Path:
    """Draw the figures of a folder into its ``figures`` folder, and write ``report.html``.

    Args:
        folder: A run, an evaluation or a sweep.

    Returns:
        The page.

    Raises:
        ValueError: The folder is none of them.
    """
    for file, sections_of in ((EVALUATION, _evaluation), (SWEEP, _sweep), (run.METRICS, _run)):
        if (folder / file).is_file():
            title, sections = sections_of(folder)
            environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
            template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
            page = folder / PAGE
            page.write_text(template.render(title=title, sections=sections) + "\n", encoding="utf-8")
            return page
    raise ValueError(f"{folder} holds no run ({run.METRICS}), evaluation ({EVALUATION}) or sweep ({SWEEP})")


def _run(folder: Path) -> tuple[str, list[Section]]:
    lines = run.read_metrics(folder)
    file = style.save(curves.draw(lines), folder / FIGURES, "curves")
    return f"Run {folder.name}", [
        _figure(folder, file, "Training loss, agreement with the watched pictures, learning rates."),
        _table([{name: f"{value:.4g}" for name, value in line.items()} for line in lines]),
        {"kind": "recipe", "text": (folder / run.RECIPE).read_text(encoding="utf-8")},
    ]


def _evaluation(folder: Path) -> tuple[str, list[Section]]:
    about = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    # A picture may be called "nan".
    predictions = pd.read_csv(folder / PREDICTIONS, keep_default_na=False, na_values={"stderr": [""]})
    title = f"{about['checkpoint']['name']} on {about['dataset']} ({about['part']}, {about['pictures']:,} pictures)"
    figures, intervals = about["figures"], about["intervals"]
    table = [
        {"figure": name, "value": value, "95 % interval": " to ".join(map(str, intervals.get(name, [])))}
        for name, value in figures.items()
    ]
    file = style.save(agreement.scatter(predictions, title), folder / FIGURES, "scatter")
    sections = [_table(table), _figure(folder, file, "Each dot is a picture.")]
    weights = stages.by_quality(predictions, title)
    if weights is not None:
        file = style.save(weights, folder / FIGURES, "stages")
        caption = "Mean weights of the stages over all pictures, in five groups of equal size; whiskers are deviations."
        sections.append(_figure(folder, file, caption))
    sections.append(_activity(folder, about, predictions))
    worst = predictions.reindex(predictions["error"].abs().sort_values(ascending=False).index).head(WORST)
    sections.append({"kind": "errors", "cards": [_card(row) for row in worst.to_dict("records")]})
    return title, sections


def _activity(folder: Path, about: Mapping[str, Any], predictions: pd.DataFrame) -> Section:
    """Activation maps of the pictures with the lowest, the middle and the highest label."""
    try:
        loaded = checkpoint.load(about["checkpoint"]["folder"])
    except checkpoint.CheckpointError:
        return _text("The checkpoint is no longer where it was, so its activation maps are not shown.")
    if loaded.digest != about["checkpoint"]["digest"]:
        return _text("The checkpoint has changed since, so its activation maps are not shown.")
    ordered = predictions.sort_values("mos", kind="stable")
    chosen = [ordered.iloc[place] for place in (0, len(ordered) // 2, len(ordered) - 1)]
    try:
        drawn = activity.maps(loaded, [(Path(row["path"]), _label_and_prediction(row)) for row in chosen])
    except ValueError as error:
        return _text(f"No activation maps: {error}.")
    file = style.save(drawn, folder / FIGURES, "activations")
    caption = "Where the four stages of the backbone are active: the worst, the middle and the best picture by label."
    return _figure(folder, file, caption)


def _sweep(folder: Path) -> tuple[str, list[Section]]:
    rows = sweep_results.read(folder)
    part = sweep_results.judged(rows[0])[0]
    title = f"Sweep {folder.name}, {part} pictures"
    table = [
        {
            "run": row["name"],
            "network": row["network"],
            "parameters": f"{row['parameters'] / 1e6:.2f} M",
            "GMACs": row["gmacs"],
            **sweep_results.judged(row)[1],
        }
        for row in rows
    ]
    table.append({"run": "median", **sweep_results.median(rows)})
    bars = style.save(comparison.bars(rows, title), folder / FIGURES, "runs")
    cost = style.save(comparison.cost(rows, title), folder / FIGURES, "cost")
    return title, [
        _table(table),
        _figure(folder, bars, "Agreement of each run."),
        _figure(folder, cost, "Agreement over cost; the area of a dot grows with the parameters."),
    ]


def _text(text: str) -> Section:
    return {"kind": "text", "text": text}


def _figure(folder: Path, file: Path, caption: str) -> Section:
    image, vector = (one.relative_to(folder).as_posix() for one in (file, file.with_suffix(".svg")))
    return {"kind": "figure", "image": image, "vector": vector, "caption": caption}


def _table(rows: Sequence[Mapping[str, Any]]) -> Section:
    """A table with the columns of all rows; a row's missing cells are empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return {
        "kind": "table",
        "columns": columns,
        "rows": [[_cell(row.get(name, "")) for name in columns] for row in rows],
    }


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _card(row: Mapping[str, Any]) -> dict[str, str]:
    thumbnail = shrink(images.decode(Path(row["path"]).read_bytes()).image)
    thumbnail.thumbnail((320, 320))
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=80)
    return {
        "name": str(row["name"]),
        "caption": _label_and_prediction(row),
        "thumbnail": base64.b64encode(buffer.getvalue()).decode(),
    }


def _label_and_prediction(row: Mapping[str, Any]) -> str:
    return f"label {row['mos']:.3g}, prediction {row['prediction']:.3g}"
