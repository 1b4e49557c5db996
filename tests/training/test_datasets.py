from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from model.scale import Scale
from tests.training import layouts
from tests.training.layouts import BUILDERS, put, write_csv
from training import datasets, splits
from training.datasets import READERS, Dataset, DatasetError


def read(name: str, root: Path, column: str = "") -> Dataset:
    """Build a miniature, and read it with all its pictures in place."""
    BUILDERS[name](root)
    dataset = datasets.read(name, root, column)
    datasets.check(dataset.samples)
    return dataset


def parts(dataset: Dataset) -> dict[str, int]:
    return dict(Counter(sample.part for sample in dataset.samples))


def test_every_data_set_has_a_miniature() -> None:
    assert set(BUILDERS) == set(READERS) - {"csv"}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_folder_is_recognised(name: str, tmp_path: Path) -> None:
    BUILDERS[name](tmp_path)
    assert datasets.recognise(tmp_path) == name
    assert datasets.recognise(tmp_path / "nothing") is None


@pytest.mark.parametrize("name", BUILDERS)
def test_labels_are_within_their_scale_and_groups_stay_together(name: str, tmp_path: Path) -> None:
    BUILDERS[name](tmp_path)
    dataset = datasets.read(name, tmp_path)
    assert dataset.scale.dataset == name
    assert READERS[name].scale in (dataset.scale, None)
    assert all(dataset.scale.min <= sample.mos <= dataset.scale.max for sample in dataset.samples)
    split = splits.make(dataset, test_share=0.3, validation_share=0.3, seed=3)
    group = {sample.name: sample.group for sample in dataset.samples}
    sides = [{group[name] for name in names} for names in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set(group.values()))


def test_biq2021(tmp_path: Path) -> None:
    dataset = read("biq2021", tmp_path)
    assert dataset.scale == Scale(dataset="biq2021", min=0, max=1)
    assert [sample.mos for sample in dataset.samples] == pytest.approx([index / 12 for index in range(12)])
    assert dataset.samples[3].path.name == "ss01 (3).JPG"
    assert parts(dataset) == {"train": 10, "test": 2}


def test_koniq10k(tmp_path: Path) -> None:
    dataset = read("koniq10k", tmp_path)
    assert parts(dataset) == {"train": 6, "validation": 2, "test": 2}
    assert [sample.mos for sample in dataset.samples] == [10.0 * index for index in range(10)]
    five = datasets.read("koniq10k", tmp_path, "MOS")
    assert five.scale == Scale(dataset="koniq10k/MOS", min=1, max=5)
    assert five.samples[3].mos == pytest.approx(2)


def test_koniq10k_with_either_score_file_alone(tmp_path: Path) -> None:
    whole = read("koniq10k", tmp_path)
    (tmp_path / "koniq10k_scores_and_distributions.csv").unlink()
    assert datasets.read("koniq10k", tmp_path) == whole
    with pytest.raises(DatasetError, match="no labels 'MOS'"):
        datasets.read("koniq10k", tmp_path, "MOS")
    layouts.koniq10k(tmp_path)
    (tmp_path / "koniq10k_distributions_sets.csv").unlink()
    assert parts(datasets.read("koniq10k", tmp_path)) == {"": 10}


def test_koniq10k_in_the_smaller_size(tmp_path: Path) -> None:
    layouts.koniq10k(tmp_path)
    (tmp_path / "1024x768").rename(tmp_path / "512x384")
    assert not datasets.missing(datasets.read("koniq10k", tmp_path).samples)


def test_spaq(tmp_path: Path) -> None:
    dataset = read("spaq", tmp_path)
    assert [(sample.name, sample.mos) for sample in dataset.samples][:2] == [("00001.jpg", 20), ("00002.jpg", 40)]
    assert datasets.read("spaq", tmp_path, "Sharpness").samples[4].mos == 50


def test_spaq_as_csv(tmp_path: Path) -> None:
    from_sheet = read("spaq", tmp_path)
    rows = [(sample.name, sample.mos) for sample in from_sheet.samples]
    sheet = tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx"
    write_csv(sheet.with_suffix(".csv"), ("Image name", "MOS"), rows)
    sheet.unlink()
    assert datasets.read("spaq", tmp_path) == from_sheet


def test_kadid10k_is_higher_better_though_its_column_is_called_dmos(tmp_path: Path) -> None:
    dataset = read("kadid10k", tmp_path)
    assert dataset.samples[0].mos > dataset.samples[1].mos
    assert dataset.samples[0].group == dataset.samples[1].group == "i01.png"


def test_live_is_turned_round_and_without_undistorted_copies(tmp_path: Path) -> None:
    dataset = read("live", tmp_path)
    assert len(dataset.samples) == 982 - 196
    assert dataset.samples[0].name == "jp2k/img1.bmp"
    assert "jp2k/img5.bmp" not in {sample.name for sample in dataset.samples}
    # The smallest DMOS is the best picture.
    assert dataset.samples[0].mos == dataset.scale.max
    assert min(sample.mos for sample in dataset.samples) == 0
    assert len({sample.group for sample in dataset.samples}) == 29
    assert "DMOS" in dataset.note


def test_csiq_is_turned_round(tmp_path: Path) -> None:
    dataset = read("csiq", tmp_path)
    assert [sample.mos for sample in dataset.samples[:2]] == pytest.approx([0.9, 0.8])
    assert {sample.group for sample in dataset.samples} == {"1600", "boston", "trolley"}


def test_csiq_in_one_folder(tmp_path: Path) -> None:
    layouts.csiq(tmp_path)
    for file in sorted((tmp_path / "dst_imgs").rglob("*.png")):
        put(tmp_path / "dst_imgs_all" / file.name, file.read_bytes())
        file.unlink()
    assert not datasets.missing(datasets.read("csiq", tmp_path).samples)


def test_tid2013_whatever_the_case_of_letters(tmp_path: Path) -> None:
    dataset = read("tid2013", tmp_path)
    assert dataset.samples[0].path.name == "I01_01_1.BMP"
    assert {sample.group for sample in dataset.samples} == {"01", "02", "25"}


def test_clive_without_the_pictures_that_trained_the_raters(tmp_path: Path) -> None:
    dataset = read("clive", tmp_path)
    assert [(sample.name, sample.mos) for sample in dataset.samples] == [("3.bmp", 63), ("10.JPG", 72), ("500.bmp", 81)]


def test_flive(tmp_path: Path) -> None:
    dataset = read("flive", tmp_path)
    assert dataset.samples[4].name == "voc_emotic_ava/0.jpg"
    assert parts(dataset) == {"train": 5, "validation": 1, "test": 2}
    (tmp_path / "labels640.csv").unlink()
    assert parts(datasets.read("flive", tmp_path)) == {"": 8}


def test_flive_with_its_lists_beside_the_pictures(tmp_path: Path) -> None:
    whole = read("flive", tmp_path / "a")
    layouts.flive(tmp_path / "b")
    for file in list((tmp_path / "b").glob("*.csv")):
        file.rename(tmp_path / "b" / "database" / file.name)
    for root in (tmp_path / "b", tmp_path / "b" / "database"):
        assert datasets.recognise(root) == "flive"
        dataset = datasets.read("flive", root)
        assert not datasets.missing(dataset.samples)
        assert [sample.mos for sample in dataset.samples] == [sample.mos for sample in whole.samples]


def test_a_checkpoint_remembers_which_scores_it_learned(tmp_path: Path) -> None:
    layouts.agiqa3k(tmp_path)
    usual, other = datasets.read("agiqa3k", tmp_path), datasets.read("agiqa3k", tmp_path, "mos_align")
    assert (usual.scale.dataset, other.scale.dataset) == ("agiqa3k", "agiqa3k/mos_align")
    assert datasets.base_name(other) == "agiqa3k"
    assert datasets.learned_column(other.scale, "agiqa3k") == "mos_align"
    assert datasets.learned_column(usual.scale, "agiqa3k") == datasets.learned_column(other.scale, "spaq") == ""


def test_agiqa3k(tmp_path: Path) -> None:
    dataset = read("agiqa3k", tmp_path)
    assert len({sample.group for sample in dataset.samples}) == 5
    assert {sample.mos for sample in dataset.samples} > {0.0, 3.0}


def test_csv(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.jpg")
    put(tmp_path / "other" / "A.JPG")
    rows = [("in/a.jpg", 2, "dog", "train"), ("other/a.jpg", 4.5, "cat", "test")]
    write_csv(tmp_path / "own.csv", ("path", "mos", "group", "split"), rows)
    dataset = datasets.read("csv", tmp_path / "own.csv")
    datasets.check(dataset.samples)
    assert dataset.scale == Scale(dataset="own", min=2, max=4.5)
    assert [(sample.name, sample.group, sample.part) for sample in dataset.samples] == [
        ("in/a.jpg", "dog", "train"),
        ("other/a.jpg", "cat", "test"),
    ]
    assert datasets.recognise(tmp_path / "own.csv") == "csv"


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (("path", "score"), [("a.jpg", 1)], "own.csv: no column 'mos'; there are path, score"),
        (("path", "mos"), [("a.jpg", "good")], "own.csv, line 2: mos is 'good', not a number"),
        (("path", "mos"), [("a.jpg", 1), ("b.jpg", 1)], "one label"),
        (("path", "mos"), [("a.jpg", 1), ("b.jpg", "nan")], "own.csv, line 3: mos is 'nan'"),
        (("path", "mos"), [("a.jpg", 1), ("b.jpg", "")], "own.csv, line 3: mos is ''"),
        (("path", "mos"), [("a.jpg", 1), ("a.jpg", 2)], "a.jpg is listed twice"),
        (("path", "mos"), [], "one label"),
        (("path", "mos", "split"), [("a.jpg", 1, "dev"), ("b.jpg", 2, "")], "line 2: split is 'dev'"),
    ],
)
def test_csv_that_cannot_be_learned_from(
    tmp_path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]], words: str
) -> None:
    write_csv(tmp_path / "own.csv", header, rows)
    with pytest.raises(DatasetError, match=words):
        datasets.read("csv", tmp_path / "own.csv")


@pytest.mark.parametrize("name", READERS)
def test_wrong_roots(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=r"no such file or folder"):
        datasets.read(name, tmp_path / "nothing")
    with pytest.raises(DatasetError, match=r"no such file|is a folder"):
        datasets.read(name, tmp_path)


def test_names_and_columns_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set is called 'koniq'; there are koniq10k"):
        datasets.read("koniq", tmp_path)
    with pytest.raises(DatasetError, match="no labels 'mos'; there are MOS_zscore, MOS"):
        datasets.read("koniq10k", tmp_path, "mos")


def test_sources_are_left_out(tmp_path: Path) -> None:
    BUILDERS["biq2021"](tmp_path)
    read = datasets.read("biq2021", tmp_path)
    samples = tuple(replace(sample, source=f"ss0{1 + place % 3}") for place, sample in enumerate(read.samples))
    dataset = replace(read, samples=samples)
    sources = Counter(sample.source for sample in samples)
    first, *others = sources
    kept = datasets.without(dataset, dataset.samples, (first,))
    assert Counter(sample.source for sample in kept) == {name: sources[name] for name in others}
    # A part of the data set may have none of what is left out.
    assert datasets.without(dataset, kept, (first,)) == kept
    with pytest.raises(DatasetError, match="no picture is from 'ss09'; there are ss0"):
        datasets.without(dataset, dataset.samples, ("ss09",))
    with pytest.raises(DatasetError, match="no picture is from another source"):
        datasets.without(dataset, dataset.samples, (*sources,))


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    layouts.biq2021(tmp_path)
    dataset = datasets.read("biq2021", tmp_path)
    for index in (5, 7):
        (tmp_path / "Images" / f"ss01 ({index}).jpg").unlink()
    with pytest.raises(DatasetError, match=r"ss01 \(5\)\.jpg: no such picture \(and 1 others\)"):
        datasets.check(dataset.samples)


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    layouts.biq2021(tmp_path)
    for index in (2, 4, 6):
        file = tmp_path / "Images" / f"ss01 ({index}).jpg"
        file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"ss01 \(2\)\.jpg: .*truncated.* \(and 2 others\)"):
        datasets.check(datasets.read("biq2021", tmp_path).samples)


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    layouts.clive(tmp_path)
    (tmp_path / "Data" / "AllMOS_release.mat").write_bytes(b"not of MATLAB")
    with pytest.raises(DatasetError, match=r"AllMOS_release.mat: not a MATLAB file"):
        datasets.read("clive", tmp_path)
    scipy.io.savemat(tmp_path / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.zeros((1, 4))})
    with pytest.raises(DatasetError, match="4 scores for 10 names"):
        datasets.read("clive", tmp_path)
    layouts.tid2013(tmp_path)
    (tmp_path / "mos_with_names.txt").write_text("5.1 i01_01_1.bmp\n5.2\n")
    with pytest.raises(DatasetError, match="line 2"):
        datasets.read("tid2013", tmp_path)
