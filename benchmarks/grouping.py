"""Time and memory of grouping many photos: ``python -m benchmarks.grouping 2500 5000 10000``.

Photos are made up, three of each scene, and read from a journal as ``smart-iqa pick`` does it. Each number of photos is
grouped by a process of its own. It prints a table and writes ``benchmarks/results/grouping.json``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from cli.pick.shots import Shots
from cli.score.journal import Journal
from model.defects import DEFECTS
from model.images.capture import Capture
from model.picking.look import CELLS, COLOURS, SIDE, Look
from model.picking.photo import Photo
from model.picking.picking import pick

RESULTS = Path(__file__).parent / "results" / "grouping.json"
SHOTS = 3
"""Photos of each scene."""
DESCRIPTION = 64


def main() -> None:
    """Group each number of photos, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+", help="numbers of photos")
    parser.add_argument("--here", action="store_true", help="group in this process, and print a line of JSON")
    arguments = parser.parse_args()
    if arguments.here:
        sys.stdout.write(json.dumps(grouped(arguments.counts[0])) + "\n")
        return
    rows = []
    for count in arguments.counts:
        command = [sys.executable, "-m", "benchmarks.grouping", str(count), "--here"]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    first = rows[0]["seconds"] / rows[0]["photos"]
    for row in rows:
        row["time a photo beside the first"] = round(row["seconds"] / row["photos"] / first, 2)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    Console().print(table)


def grouped(count: int) -> dict[str, float]:
    """Make photos, and group them: the time, and the memory that it takes at its peak."""
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "photos.part", {}) as journal:
        for number in range(count):
            made = photo(number)
            journal.add({"path": made.name, "score": made.score, "photo": made.to_dict()})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        groups = pick(Shots(journal, range(count)))
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "photos": count,
        "groups": len(groups),
        "seconds": round(seconds, 1),
        "more memory, MB": (after - before) // 1024,
    }


def photo(number: int) -> Photo:
    """A photo of a scene: smooth structures of random places, shifted a little from shot to shot."""
    scene, shot = divmod(number, SHOTS)
    rng = np.random.default_rng(scene)
    coarse_HW = rng.integers(0, 256, (12, 12), dtype=np.uint8)
    large = Image.fromarray(coarse_HW).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
    luma_HW = np.asarray(large.crop((4 * shot, 4 * shot, 4 * shot + 110, 4 * shot + 110)).resize((SIDE, SIDE)))
    description = rng.normal(size=DESCRIPTION) / 4 + np.random.default_rng((scene, shot)).normal(size=DESCRIPTION) / 40
    colours_HWC = np.repeat(luma_HW[::8, ::8, None], 3, axis=2).astype(np.uint8)
    cells = rng.integers(40, 120, (2, CELLS, CELLS), dtype=np.uint8)
    assert colours_HWC.shape == (COLOURS, COLOURS, 3)
    return Photo(
        name=f"{number:07}.jpg",
        score=50.0 + shot,
        severities=dict.fromkeys(DEFECTS, 0.0),
        description=tuple(description.tolist()),
        width=4000,
        height=3000,
        sha256=f"{number:064x}",
        look=Look(Capture(), luma_HW, colours_HWC, *cells),
    )


if __name__ == "__main__":
    main()
