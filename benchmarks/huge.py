"""Phone photos of 12 to 200 megapixels: time and memory of decoding them to the default checkpoint's size.

Each is decoded in a process of its own. HEICs need libheif's ``heif-enc``; without it they are left out. It prints a
table and writes ``benchmarks/results/huge.json``.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import machine
from tests.conftest import EXAMPLES

RESULTS = Path(__file__).parent / "results" / "huge.json"
SIZES = {"12 MP": (4000, 3000), "108 MP": (12000, 9000), "200 MP": (16320, 12240)}
PROGRAM = """
import json, sys, time
from model import checkpoint, images
from model.options import DEFAULT_CHECKPOINT

contract = checkpoint.inspect(DEFAULT_CHECKPOINT)[0].contract
data = open(sys.argv[1], "rb").read()


def kilobytes(name):
    return int(open("/proc/self/status").read().partition(name)[2].split()[0])


held, before = [], kilobytes("VmRSS:")
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here on
began = time.process_time()
picture = contract.decode(data, images.Limits(), held.append)
contract.resized(picture)
print(json.dumps({
    "cpu_seconds": round(time.process_time() - began, 2),
    "more_mb": round((kilobytes("VmHWM:") - before) / 1024),
    "counted_megapixels": round(held[0] / 1e6, 1),
    "size": picture.facts.size,
    "file_mb": round(len(data) / 1e6, 1),
}))
"""


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            photo = Path(folder) / "photo.jpg"
            draw(size).save(photo, quality=90)
            rows[f"JPEG {name}"] = decode(photo)
            if shutil.which("heif-enc"):
                heic = Path(folder) / "photo.heic"
                command = ["heif-enc", "-q", "60", "-p", "preset=ultrafast", str(photo), "-o", str(heic)]
                subprocess.run(command, check=True, capture_output=True)
                rows[f"HEIC {name}"] = decode(heic)
    report = {"machine": machine(), "photos": rows}
    print(f"{'':<12} {'CPU, s':>7} {'memory, MB':>11} {'counted, MP':>12} {'file, MB':>9}")
    for name, row in rows.items():
        print(
            f"{name:<12} {row['cpu_seconds']:>7} {row['more_mb']:>11} {row['counted_megapixels']:>12} "
            f"{row['file_mb']:>9}"
        )
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def draw(size: tuple[int, int]) -> Image.Image:
    """A photo of that size, with the noise of a sensor."""
    with Image.open(EXAMPLES[0]) as file:
        photo = file.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    tile = np.random.default_rng(0).integers(0, 12, (1024, 1024, 3), dtype=np.uint8)
    for top in range(0, size[1], 1024):
        for left in range(0, size[0], 1024):
            box = (left, top, min(left + 1024, size[0]), min(top + 1024, size[1]))
            pixels = np.asarray(photo.crop(box)).astype(np.int16) + tile[: box[3] - top, : box[2] - left]
            photo.paste(Image.fromarray((pixels - 6).clip(0, 255).astype(np.uint8)), box)
    return photo


def decode(file: Path) -> dict[str, float]:
    """Decode a file in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file)], check=True, capture_output=True, text=True)
    row: dict[str, float] = json.loads(done.stdout)
    return row


if __name__ == "__main__":
    main()
