"""Cost of decoding and resizing a picture to the size that crops are cut from, beside other decoders.

All ways take turns in one run. A peer that is not installed is listed as missing (opencv-python-headless; nothing else
here needs it). It prints four tables and writes ``benchmarks/results/decode.json``.

    checks  milliseconds of decoding at the contract's scale with all checks of damage and work, and of plain Pillow
    stages  milliseconds a megapixel of our own decoding, resizing and cutting, with the contract's two ways to decode
    ways    milliseconds from the bytes to the resized picture, and how many times as fast as our full decoding
    points  how far each way moves the default checkpoint's scores from those of our full decoding, in points of 100

``points`` needs large photos. Those of the folder that are smaller than 12 MP are shown in two ways: ``enlarged``, with
no more detail than before, and side by side on a ``mosaic``, with detail down to its last pixel.
"""

import argparse
import io
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from benchmarks.decoding_ways import JPEG, OURS, Way, takes, ways
from model.contract import Contract
from model.scorer import Scorer
from tests.conftest import EXAMPLES, encode

RESULTS = Path(__file__).parent / "results" / "decode.json"
SIZES = {"0.2 MP": (512, 384), "2 MP": (1632, 1224), "12 MP": (4000, 3000)}
FORMATS = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 3}, "WEBP": {"quality": 85, "method": 2}}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of all ways")
    parser.add_argument("--photos", type=Path, default=EXAMPLES[0].parent, help="folder of photos for the scores")
    parser.add_argument("--count", type=int, default=24, help="photos of it to use, evenly spread over their names")
    arguments = parser.parse_args()
    scorer = Scorer.load(device="cpu", precision="fp32")
    # Whatever the contract says, the ways compare decoding in full with others.
    looks = scorer.checkpoint.contract
    contract = replace(looks, decoding="full")
    found, missing = ways()
    pictures = dict(drawn())
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Pillow {PIL.__version__}",
        "contract": contract.id,
        "missing": missing,
        "checks": {name: checks(data, looks, arguments.rounds) for name, data in checked()},
        "stages": {name: stages(data, contract, arguments.rounds) for name, data in pictures.items()},
        "ways": {name: compare(data, contract, found, arguments.rounds) for name, data in pictures.items()},
        "points": points(scorer, found, arguments.photos, arguments.count),
    }
    show(report)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def drawn() -> Iterator[tuple[str, bytes]]:
    """A photo in each size and format."""
    with Image.open(EXAMPLES[0]) as file:
        photo = file.convert("RGB")
    for (size_name, size), (format_, options) in itertools.product(SIZES.items(), FORMATS.items()):
        yield f"{format_} {size_name}", encode(photo.resize(size, Image.Resampling.LANCZOS), format_, **options)


def checked() -> Iterator[tuple[str, bytes]]:
    """A photo of 12 megapixels with noise, which does not compress away, in each format that Pillow writes."""
    with Image.open(EXAMPLES[0]) as file:
        photo = np.asarray(file.convert("RGB").resize(SIZES["12 MP"], Image.Resampling.LANCZOS)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-8, 9, photo.shape)
    noisy = Image.fromarray((photo + noise).clip(0, 255).astype(np.uint8))
    for name, format_, options in (
        ("JPEG", "JPEG", {"quality": 90}),
        ("JPEG, progressive", "JPEG", {"quality": 90, "progressive": True}),
        ("PNG", "PNG", {"compress_level": 3}),
        ("WebP", "WEBP", {"quality": 85, "method": 2}),
        ("TIFF, LZW", "TIFF", {"compression": "tiff_lzw"}),
        ("TIFF, deflate", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("AVIF", "AVIF", {"quality": 70, "speed": 10}),
        ("JPEG 2000", "JPEG2000", {"quality_mode": "rates", "quality_layers": [12], "irreversible": True}),
    ):
        yield name, encode(noisy, format_, **options)


def checks(data: bytes, contract: Contract, rounds: int) -> dict[str, float]:
    """Decoding here and by plain Pillow at the same scale, by turns; medians, and the median of the ratios."""
    ours, plain = [], []
    for _ in range(max(rounds // 2, 3) + 1):
        began = time.perf_counter()
        size = contract.decode(data).image.size
        between = time.perf_counter()
        image = Image.open(io.BytesIO(data))
        image.draft(None, size)
        image.load()
        ours.append(between - began)
        plain.append(time.perf_counter() - between)
    return {
        "ms": round(1e3 * statistics.median(ours[1:]), 1),
        "pillow_ms": round(1e3 * statistics.median(plain[1:]), 1),
        "ratio": round(statistics.median(here / there for here, there in zip(ours[1:], plain[1:], strict=True)), 3),
    }


def stages(data: bytes, contract: Contract, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a megapixel of each stage, by the contract's way to decode; medians."""
    row = {}
    for decoding in ("full", "scaled") if data.startswith(JPEG) else ("full",):
        looks = replace(contract, decoding=decoding)
        times: dict[str, list[float]] = {"decode": [], "resize": [], "cut": []}
        for _ in range(rounds):
            began = time.perf_counter()
            picture = looks.decode(data)
            decoded = time.perf_counter()
            resized = looks.resized(picture)
            ready = time.perf_counter()
            looks.cut(np.asarray(resized), picture.facts.size, looks.crops)
            done = time.perf_counter()
            for stage, seconds in zip(times, (decoded - began, ready - decoded, done - ready), strict=True):
                times[stage].append(seconds)
        megapixels = picture.facts.width * picture.facts.height / 1e6
        row[decoding] = {
            stage: round(1e3 * statistics.median(seconds) / megapixels, 3) for stage, seconds in times.items()
        }
    return row


def compare(data: bytes, contract: Contract, found: dict[str, Way], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each way that takes the picture, and its speed beside ours; medians over turns."""
    able = {name: way for name, way in found.items() if takes(name, data)}
    times: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds + 1):
        for name, way in able.items():
            began = time.perf_counter()
            way(data, contract)
            times[name].append(1e3 * (time.perf_counter() - began))
    # The first turn warms up.
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {name: {"ms": round(ms, 2), "speed": round(medians[OURS] / ms, 2)} for name, ms in medians.items()}


def points(scorer: Scorer, found: dict[str, Way], folder: Path, count: int) -> dict[str, Any]:
    """How far each way moves the scores of photos, in points of 100."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    files = files[:: max(len(files) // count, 1)][:count]
    if not files:
        raise SystemExit(f"{folder} holds no JPEGs")
    sets = photo_sets(files)
    report: dict[str, Any] = {}
    for name, pictures in sets.items():
        scores = {way: np.array([score(scorer, see, data) for data in pictures]) for way, see in found.items()}
        moved = {way: np.abs(values - scores[OURS]) for way, values in scores.items()}
        report[name] = {
            "photos": len(pictures),
            "ways": {
                way: {"mean": round(float(off.mean()), 3), "max": round(float(off.max()), 3)}
                for way, off in moved.items()
            },
        }
    return {"folder": folder.name, "files": len(files), "sets": report}


def photo_sets(files: list[Path]) -> dict[str, list[bytes]]:
    """JPEGs of 12 MP or more as they are; of the smaller ones, enlarged copies and as many mosaics."""
    width, height = SIZES["12 MP"]
    sets: dict[str, list[bytes]] = {"as they are": [], "enlarged": [], "mosaic": []}
    small = []
    for file in files:
        with Image.open(file) as image:
            if image.width * image.height >= width * height:
                sets["as they are"].append(file.read_bytes())
            else:
                small.append(image.convert("RGB"))
    for start, photo in enumerate(small):
        factor = (width * height / (photo.width * photo.height)) ** 0.5
        size = round(photo.width * factor), round(photo.height * factor)
        sets["enlarged"].append(encode(photo.resize(size, Image.Resampling.LANCZOS), quality=92))
        sets["mosaic"].append(encode(mosaic(itertools.cycle(small[start:] + small[:start])), quality=92))
    return {name: pictures for name, pictures in sets.items() if pictures}


def mosaic(photos: Iterator[Image.Image]) -> Image.Image:
    """12 MP of photos in their own pixels, row by row."""
    whole = Image.new("RGB", SIZES["12 MP"])
    top = 0
    while top < whole.height:
        left = bottom = 0
        while left < whole.width:
            photo = next(photos)
            whole.paste(photo, (left, top))
            left, bottom = left + photo.width, max(bottom, photo.height)
        top += bottom
    return whole


def score(scorer: Scorer, way: Way, data: bytes) -> float:
    """Unrounded score of the default checkpoint for a picture that was decoded by one of the ways."""
    contract = scorer.checkpoint.contract
    with Image.open(io.BytesIO(data)) as image:
        views = contract.cut(way(data, contract), image.size, contract.crops)
    outputs_N = scorer.engine.predict(views.items)[:, 0].astype(np.float64)
    return contract.scale.to_percent(float(contract.raw(outputs_N).mean()))


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{report['machine']}; contract {report['contract']}; missing: {', '.join(report['missing']) or 'nothing'}")
    print(f"\n{'12 MP, ms':<18} {'ours':>8} {'Pillow':>8} {'ratio':>6}")
    for name, row in report["checks"].items():
        print(f"{name:<18} {row['ms']:>8.1f} {row['pillow_ms']:>8.1f} {row['ratio']:>6.2f}")
    print(f"\n{'ms a megapixel':<14} {'decoding':<8} {'decode':>8} {'resize':>8} {'cut':>8}")
    for name, row in report["stages"].items():
        for decoding, taken in row.items():
            print(f"{name:<14} {decoding:<8} " + " ".join(f"{value:8.3f}" for value in taken.values()))
    for format_ in FORMATS:
        names = [f"{format_} {size}" for size in SIZES]
        print(f"\n{'ms (times as fast)':<22}" + "".join(f"{name:>18}" for name in names))
        for way in report["ways"][names[0]]:
            cells = (report["ways"][name][way] for name in names)
            print(f"{way:<22}" + "".join(f"{cell['ms']:>10.2f} ({cell['speed']:>4.2f})" for cell in cells))
    about = report["points"]
    print(f"\npoints of 100, mean (largest); {about['files']} photos of {about['folder']}/, seen with 12 MP")
    print(f"{'':<22}" + "".join(f"{row['photos']:>7} {name:<14}" for name, row in about["sets"].items()))
    for way in next(iter(about["sets"].values()))["ways"]:
        cells = (row["ways"][way] for row in about["sets"].values())
        print(f"{way:<22}" + "".join(f"{cell['mean']:>12.3f} ({cell['max']:.3f})  " for cell in cells))


if __name__ == "__main__":
    main()
