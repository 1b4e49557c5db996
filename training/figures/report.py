"""Figures of a run, an evaluation or a sweep, and one page that shows them."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model import checkpoint, images
from model.maps.overlay import shrink
from training import run, sweep_results
from training.evaluator import EVALUATION, PREDICTIONS
from training.figures import activity, agreement, comparison, curves, stages, style

FIGURES = "figures"
PAGE = "report.html"
WORST = 12
"""Pictures in the gallery of largest errors."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } figure img { background: #fff; } }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
.gallery img { width: 100%; border-radius: 4px; } .gallery p { margin: .2rem 0; overflow-wrap: anywhere; }
"""


def make(folder: Path) -> Path:
    """Draw everything that a folder gives, into its ``figures`` and ``report.html``.

    Args:
        folder: A run, an evaluation or a sweep.

    Returns:
        The page.

    Raises:
        ValueError: The folder is none of them.
    """
    for file, draw in ((EVALUATION, _evaluation), (sweep_results.SWEEP, _sweep), (run.METRICS, _run)):
        if (folder / file).is_file():
            title, sections = draw(folder)
            page = folder / PAGE
            page.write_text(_page(title, sections), encoding="utf-8")
            return page
    raise ValueError(f"{folder} holds no run ({run.METRICS}), evaluation ({EVALUATION}) or sweep ({sweep_results.SWEEP})")


def _run(folder: Path) -> tuple[str, list[str]]:
    lines = run.read_metrics(folder)
    shown = [{name: f"{value:.4g}" for name, value in line.items()} for line in lines]
    file = style.save(curves.draw(lines), folder / FIGURES, "curves")
    recipe = (folder / run.RECIPE).read_text(encoding="utf-8")
    return f"Run {folder.name}", [
        _figure(folder, file, "Training loss, agreement with the watched pictures, learning rates."),
        _table(shown),
        f"<h2>Recipe</h2><pre>{html.escape(recipe)}</pre>",
    ]


def _evaluation(folder: Path) -> tuple[str, list[str]]:
    about = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    # A picture may be called "nan".
    predictions = pd.read_csv(folder / PREDICTIONS, keep_default_na=False, na_values={"stderr": [""]})
    title = f"{about['checkpoint']['name']} on {about['dataset']} ({about['part']}, {about['pictures']:,} pictures)"
    figures, intervals = about["figures"], about["intervals"]
    table = [
        {"figure": name, "value": value, "95 % interval": " to ".join(map(str, intervals.get(name, [])))}
        for name, value in figures.items()
    ]
    sections = [_table(table)]
    file = style.save(agreement.scatter(predictions, title), folder / FIGURES, "scatter")
    sections.append(_figure(folder, file, "Each dot is a picture."))
    weights = stages.by_quality(predictions, title)
    if weights is not None:
        file = style.save(weights, folder / FIGURES, "stages")
        caption = "Mean weights of the stages over all pictures, in five groups of equal size; whiskers are deviations."
        sections.append(_figure(folder, file, caption))
    sections.append(_activity(folder, about, predictions))
    worst = predictions.reindex(predictions["error"].abs().sort_values(ascending=False).index).head(WORST)
    sections.append(f"<h2>Largest errors</h2><div class=gallery>{''.join(map(_card, worst.to_dict('records')))}</div>")
    return title, sections


def _activity(folder: Path, about: Mapping[str, Any], predictions: pd.DataFrame) -> str:
    """Activation maps of the worst, the middle and the best picture, by their labels."""
    try:
        loaded = checkpoint.load(about["checkpoint"]["folder"])
    except checkpoint.CheckpointError:
        return "<p>The checkpoint is no longer where it was, so its activation maps are not shown.</p>"
    if loaded.digest != about["checkpoint"]["digest"]:
        return "<p>The checkpoint has changed since, so its activation maps are not shown.</p>"
    ordered = predictions.sort_values("mos", kind="stable")
    chosen = [ordered.iloc[place] for place in (0, len(ordered) // 2, len(ordered) - 1)]
    pictures = [(Path(row["path"]), f"label {row['mos']:.3g}, prediction {row['prediction']:.3g}") for row in chosen]
    try:
        drawn = activity.maps(loaded, pictures)
    except ValueError as error:
        return f"<p>No activation maps: {html.escape(str(error))}.</p>"
    file = style.save(drawn, folder / FIGURES, "activations")
    caption = "Where the four stages of the backbone are active: the worst, the middle and the best picture by label."
    return _figure(folder, file, caption)


def _sweep(folder: Path) -> tuple[str, list[str]]:
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
    table.append({"run": "median", "network": "", "parameters": "", "GMACs": "", **sweep_results.median(rows)})
    bars = style.save(comparison.bars(rows, title), folder / FIGURES, "runs")
    cost = style.save(comparison.cost(rows, title), folder / FIGURES, "cost")
    return title, [
        _table(table),
        _figure(folder, bars, "Agreement of each run."),
        _figure(folder, cost, "Agreement over cost; the area of a dot grows with the parameters."),
    ]


def _page(title: str, sections: Sequence[str]) -> str:
    shown = html.escape(title)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{shown}</title><style>{_STYLE}</style><h1>{shown}</h1>{''.join(sections)}</html>\n"
    )


def _figure(folder: Path, file: Path, caption: str) -> str:
    source = file.relative_to(folder).as_posix()
    vector = file.with_suffix(".svg").relative_to(folder).as_posix()
    return (
        f"<figure><img src='{source}' alt='{html.escape(caption)}'>"
        f"<figcaption>{html.escape(caption)} <a href='{vector}'>SVG</a></figcaption></figure>"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    frame = pd.DataFrame(rows)
    text: str = frame.to_html(index=False, border=0, na_rep="")
    return text


def _card(row: Mapping[str, Any]) -> str:
    buffer = io.BytesIO()
    thumbnail = shrink(images.decode(Path(row["path"]).read_bytes()).image)
    thumbnail.thumbnail((320, 320))
    thumbnail.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    name = html.escape(str(row["name"]))
    return (
        f"<div><img alt='{name}' src='data:image/jpeg;base64,{data}'><p>{name}</p>"
        f"<p>label {row['mos']:.3g}, prediction {row['prediction']:.3g}</p></div>"
    )
