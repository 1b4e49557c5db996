"""A miniature of every data set's layout: tiny pictures, and score files as the real ones are written."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
from PIL import ImageFilter

from tests.conftest import encode, photo

JPEG = encode(photo(40, 32))
PNG, BMP = encode(photo(40, 32), "PNG"), encode(photo(40, 32), "BMP")


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def put(file: Path, data: bytes = JPEG) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def blurred(folder: Path) -> Path:
    """A user's CSV file: twelve pictures, blurred ever more, with labels that say so."""
    rows: list[tuple[str, object]] = []
    for index in range(12):
        image = photo(256, 240, seed=index).filter(ImageFilter.GaussianBlur(index / 2))
        put(folder / f"{index:02}.jpg", encode(image))
        rows.append((f"{index:02}.jpg", 1 - index / 12))
    write_csv(folder / "labels.csv", ("path", "mos"), rows)
    return folder / "labels.csv"


def biq2021(root: Path) -> None:
    """Ten training pictures, one of them with a suffix in the wrong case, and two for testing."""
    names = [f"ss01 ({number}).jpg" for number in range(12)]
    for name in names:
        put(root / "Images" / (name.replace(".jpg", ".JPG") if "(3)" in name else name))
    rows = [(name, index / 12) for index, name in enumerate(names)]
    write_csv(root / "Train (Images and MOS).csv", ("Image Name", "MOS"), rows[:10])
    write_csv(root / "Test (Images and MOS).csv", ("Image Name", "MOS"), rows[10:])


def koniq10k(root: Path) -> None:
    sets = ["training"] * 6 + ["validation"] * 2 + ["test"] * 2
    rows, official = [], []
    for index, part in enumerate(sets):
        name = f"{index + 826373}.jpg"
        put(root / "1024x768" / name)
        rows.append((name, 0, 0, 25, 73, 7, 105, 1 + index / 3, 0.5, 10 * index))
        official.append((name, 0, 0, 25, 73, 7, 105, 10 * index, 12.5, part))
    counts = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total")
    write_csv(root / "koniq10k_scores_and_distributions.csv", (*counts, "MOS", "SD", "MOS_zscore"), rows)
    write_csv(root / "koniq10k_distributions_sets.csv", (*counts, "MOS", "SD", "set"), official)


def spaq(root: Path) -> None:
    (root / "Annotations").mkdir(parents=True)
    rows = []
    for number in range(1, 6):
        put(root / "TestImage" / f"{number:05}.jpg")
        rows.append((f"{number:05}.jpg", 20.0 * number, 50, 50, 50, 50, 10 * number))
    columns = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)


def kadid10k(root: Path) -> None:
    rows = []
    for reference in ("I01", "I02", "I03", "I04", "I05"):
        put(root / "images" / f"{reference}.png", PNG)
        for level in (1, 2):
            put(root / "images" / f"{reference}_01_0{level}.png", PNG)
            rows.append((f"{reference}_01_0{level}.png", f"{reference}.png", 5.0 - level, 0.5))
    write_csv(root / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), rows)


def live(root: Path) -> None:
    """The arrays at full length, because their order is all there is; the pictures tiny."""
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    for folder, count in counts.items():
        for number in range(1, count + 1):
            put(root / folder / f"img{number}.bmp", BMP)
    total = sum(counts.values())
    dmos = np.linspace(-2.64, 111.77, total)
    undistorted = np.arange(total) % 5 == 4
    references = np.empty((1, total), dtype=object)
    references[0] = [np.array([f"ref{index % 29:02}.bmp"]) for index in range(total)]
    scipy.io.savemat(root / "dmos_realigned.mat", {"dmos_new": dmos[None], "orgs": undistorted[None].astype(np.uint8)})
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": references})


def csiq(root: Path) -> None:
    lines: list[str] = []
    for reference in ("1600", "boston", "trolley"):
        for kind in ("AWGN", "jpeg2000"):
            put(root / "dst_imgs" / kind.lower() / f"{reference}.{kind}.1.png", PNG)
            lines.append(f"{reference}.{kind}.1.png 0.{len(lines) + 1}")
    (root / "csiq_label.txt").write_text("\n".join(lines) + "\n")


def tid2013(root: Path) -> None:
    lines: list[str] = []
    for reference in (1, 2, 25):
        for level in (1, 2):
            # The list says i and .bmp, the disk I and .BMP.
            put(root / "distorted_images" / f"I{reference:02}_01_{level}.BMP", BMP)
            lines.append(f"{6 - level - reference / 100:.5f} i{reference:02}_01_{level}.bmp")
    (root / "mos_with_names.txt").write_text("\n".join(lines) + "\n")


def clive(root: Path) -> None:
    names = [f"t{index}.bmp" for index in range(7)] + ["3.bmp", "10.JPG", "500.bmp"]
    (root / "Data").mkdir(parents=True)
    for name in names[7:]:
        put(root / "Images" / name, BMP if name.endswith("bmp") else JPEG)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = [np.array([name]) for name in names]
    scores = np.arange(len(names), dtype=float)[None] * 9
    scipy.io.savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    scipy.io.savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": scores})


def flive(root: Path) -> None:
    names = [f"{folder}/{number}.jpg" for folder in ("blur_dataset", "voc_emotic_ava") for number in range(4)]
    for name in names:
        put(root / "database" / name)
    write_csv(root / "labels_image.csv", ("name", "mos"), [(name, 10.0 * i) for i, name in enumerate(names)])
    write_csv(root / "labels640.csv", ("name_image", "mos_image"), [(names[0], 1), (names[5], 2)])
    padded = [(name, name == names[2]) for name in names]
    write_csv(root / "labels=640_padded.csv", ("name_image", "is_valid"), padded)


def agiqa3k(root: Path) -> None:
    rows: list[tuple[object, ...]] = []
    for prompt in range(5):
        for model in ("AttnGAN_normal", "DALLE2"):
            put(root / f"{model}_{prompt:03}.jpg")
            rows.append(
                (
                    f"{model}_{prompt:03}.jpg",
                    f"a dog, number {prompt}",
                    "",
                    "",
                    "",
                    len(rows) / 3,
                    1,
                    4 - len(rows) / 3,
                    1,
                )
            )
    header = ("name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align")
    write_csv(root / "data.csv", header, rows)


BUILDERS: dict[str, Callable[[Path], Any]] = {
    builder.__name__: builder
    for builder in (biq2021, koniq10k, spaq, kadid10k, live, csiq, tid2013, clive, flive, agiqa3k)
}
