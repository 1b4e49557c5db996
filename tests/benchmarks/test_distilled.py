from pathlib import Path

import pandas as pd
import pytest

from benchmarks import distilled
from training import datasets, splits
from training.splits import Split

WHOLE = Split(dataset="csv", train=tuple(f"{number}.jpg" for number in range(10)), test=("10.jpg", "11.jpg"))


def test_each_photo_is_unseen_by_one_teacher_and_none_sees_the_tested_ones() -> None:
    parts = distilled.thirds(WHOLE, seed=3)
    assert sorted(name for part in parts for name in part.test) == sorted(WHOLE.train)
    for part in parts:
        assert {*part.train, *part.test} == set(WHOLE.train)
        assert not {*part.train} & {*part.test, *WHOLE.test}
    assert parts != distilled.thirds(WHOLE, seed=4)


def test_a_student_learns_labels_and_opinions_and_is_tested_on_labels_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [*WHOLE.train, *WHOLE.test]
    pd.DataFrame({"path": names, "mos": [place / 11 for place in range(12)]}).to_csv(photos / "mos.csv", index=False)
    (tmp_path / "runs").mkdir()
    opinions = dict.fromkeys(WHOLE.train, 0.5)
    distilled.blended(datasets.read("csv", photos / "mos.csv", ""), WHOLE, opinions, tmp_path / "runs" / "labels.csv")
    student = datasets.read("csv", tmp_path / "runs" / "labels.csv", "")
    part = splits.make(student, kind="official", validation_share=0, seed=0)
    labels = {Path(sample.name).name: sample.mos for sample in student.samples}
    assert labels["0.jpg"] == pytest.approx(0.25)
    assert labels["9.jpg"] == pytest.approx((9 / 11 + 0.5) / 2)
    assert labels["11.jpg"] == 1
    assert {Path(name).name for name in part.test} == set(WHOLE.test)
    assert student.samples[0].path.resolve() == photos / "0.jpg"
