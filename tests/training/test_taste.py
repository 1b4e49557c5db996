"""Calibrations fitted on a few labels of one's own."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from training import labels as reading
from training import taste
from training.labels import LabelError, Labels
from training.taste import Photos, Vector


def seen(count: int, seed: int = 0) -> Photos:
    """Photos whose descriptions have nothing to do with their scores."""
    rng = np.random.default_rng(seed)
    described_NK = rng.normal(size=(count, 12)) / 3
    return Photos(scores_N=rng.uniform(20, 90, count), descriptions_NK=described_NK, scenes_N=np.arange(count))


def names(count: int) -> tuple[str, ...]:
    return tuple(f"{at}.jpg" for at in range(count))


def labels(kind: str, taste_N: Vector, rng: np.random.Generator) -> Labels:
    count = len(taste_N)
    if kind == "scores":
        values = 3 + 0.02 * (taste_N - 55)
        return Labels(kind="scores", photos=names(count), values=tuple(values.tolist()), scale=(1.0, 5.0))
    if kind == "thumbs":
        up = (taste_N > np.median(taste_N)).astype(float)
        return Labels(kind="thumbs", photos=names(count), values=tuple(up.tolist()))
    order = np.concatenate([rng.permutation(count) for _ in range(4)]).reshape(-1, 2).tolist()
    pairs = tuple((a, b) if taste_N[a] > taste_N[b] else (b, a) for a, b in order if a != b)
    return Labels(kind="pairs", photos=names(count), pairs=pairs)


@pytest.mark.parametrize("kind", ["scores", "thumbs", "pairs"])
def test_a_taste_is_learned_from_fifty_labels(kind: str) -> None:
    photos, others = seen(50), seen(400, seed=1)

    def wanted(own: Photos) -> Vector:
        found: Vector = 0.4 * own.scores_N + own.descriptions_NK[:, 0] * 60 - own.descriptions_NK[:, 3] * 60 + 30
        return found

    rng = np.random.default_rng(2)
    told = labels(kind, wanted(photos) + 3 * rng.standard_normal(50), rng)
    made, trials = taste.fit(told, photos, name="own", model="sha256:0")
    assert made is not None
    assert trials[-1].helps
    assert trials[-1].after > trials[-1].before
    before = stats.spearmanr(others.scores_N, wanted(others)).statistic
    after = stats.spearmanr(made.corrected(others.scores_N, others.descriptions_NK), wanted(others)).statistic
    assert after > before + 0.2
    assert made.about["count"] == len(told)


@pytest.mark.parametrize("kind", ["thumbs", "pairs"])
def test_labels_that_say_nothing_new_leave_scores_alone(kind: str) -> None:
    written = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        photos = seen(50, seed)
        made, _ = taste.fit(labels(kind, photos.scores_N + 5 * rng.standard_normal(50), rng), photos, name="", model="")
        written += made is not None
    assert written <= 1


def test_scores_on_the_models_own_scale_leave_it_alone() -> None:
    photos = seen(60)
    noise = 6 * np.random.default_rng(1).standard_normal(60)
    values = (photos.scores_N + noise).clip(0, 100)
    told = Labels(kind="scores", photos=names(60), values=tuple(values.tolist()), scale=(0.0, 100.0))
    made, trials = taste.fit(told, photos, name="", model="")
    assert made is None
    assert [trial.helps for trial in trials] == [False, False]


def test_scores_on_another_scale_get_a_line_that_rises() -> None:
    photos, others = seen(60), seen(200, seed=1)
    values = (40 + 0.3 * photos.scores_N).tolist()
    told = Labels(kind="scores", photos=names(60), values=tuple(values), scale=(0.0, 100.0))
    made, (line, head) = taste.fit(told, photos, name="", model="")
    assert made is not None
    assert (line.helps, head.helps, made.weights) == (True, False, ())
    found_N = made.corrected(others.scores_N, others.descriptions_NK)
    assert np.abs(found_N - (40 + 0.3 * others.scores_N)).max() < 2
    order = np.argsort(others.scores_N)
    assert (np.diff(found_N[order]) >= 0).all()
    assert made.width is not None
    assert made.width < 2


@pytest.mark.parametrize("kind", ["scores", "thumbs"])
def test_photos_of_one_scene_are_not_learned_from_and_tested_at_once(kind: str) -> None:
    taken = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scenes = seen(20, seed)
        thrice = np.repeat(np.arange(20), 3)
        photos = Photos(
            scores_N=scenes.scores_N[thrice] + rng.normal(size=60),
            descriptions_NK=scenes.descriptions_NK[thrice] + 0.01 * rng.normal(size=(60, 12)),
            scenes_N=thrice,
        )
        # What somebody adds to each scene has nothing to do with what it is like.
        liked_N = photos.scores_N + 15 * rng.standard_normal(20)[thrice]
        told = labels(kind, liked_N, rng)
        if kind == "scores":
            values = tuple(liked_N.clip(0, 100).tolist())
            told = Labels(kind="scores", photos=names(60), values=values, scale=(0.0, 100.0))
        taken += taste.fit(told, photos, name="", model="")[0] is not None
    assert taken <= 1


def test_few_scenes_are_not_enough() -> None:
    photos = seen(40)
    told = labels("scores", photos.scores_N, np.random.default_rng(0))
    with pytest.raises(LabelError, match="show only 4 scenes"):
        taste.fit(told, replace(photos, scenes_N=np.arange(40) % 4), name="", model="")


def test_a_taste_is_learned_on_top_of_the_line() -> None:
    photos = seen(120)
    bent = 90 * (photos.scores_N / 100) ** 3
    told_N = (bent + 25 * photos.descriptions_NK[:, 0]).clip(0, 100)
    told = Labels(kind="scores", photos=names(120), values=tuple(told_N.tolist()), scale=(0.0, 100.0))
    made, (line, head) = taste.fit(told, photos, name="", model="")
    assert made is not None
    assert line.helps
    assert head.helps
    assert len(made.knots) > 2
    assert np.abs(made.corrected(photos.scores_N, photos.descriptions_NK) - told_N).mean() < 5


def test_equal_scores_get_no_line() -> None:
    photos = replace(seen(30), scores_N=np.linspace(50, 50.0003, 30))
    told = Labels(kind="scores", photos=names(30), values=tuple(np.linspace(1, 5, 30).tolist()), scale=(1.0, 5.0))
    _, (line, _) = taste.fit(told, photos, name="", model="")
    assert not line.helps


def test_a_line_makes_no_ties() -> None:
    photos = seen(60)
    told_N = np.random.default_rng(1).permutation(photos.scores_N)
    told = Labels(kind="scores", photos=names(60), values=tuple(told_N.tolist()), scale=(0.0, 100.0))
    line = taste._line(told, photos, np.array(told.values), np.arange(60))
    ends = [end for _, end in line.knots]
    assert all(one < other for one, other in pairwise(ends))


def test_a_fit_is_the_same_again() -> None:
    photos = seen(50)
    wanted = 50 + 40 * photos.descriptions_NK[:, 1]
    told = labels("scores", wanted, np.random.default_rng(0))
    first, again = (taste.fit(told, photos, name="own", model="m")[0] for _ in range(2))
    assert first == again


def rows(count: int, line: str) -> str:
    return "".join(line.format(at) + "\n" for at in range(count))


def test_labels_are_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,score\n" + rows(20, "{0}.jpg,{0}"))
    told = reading.read(file)
    assert (told.kind, told.photos[3], told.values[3], told.scale, len(told)) == (
        "scores",
        "3.jpg",
        3.0,
        (0.0, 100.0),
        20,
    )
    assert reading.read(file, (0.0, 20.0)).scale == (0.0, 20.0)
    file.write_text("\ufeffPath, Thumb\n" + rows(10, "{0}.jpg,Up") + rows(10, "b{0}.jpg,0"), encoding="utf-8")
    told = reading.read(file)
    assert (told.kind, sum(told.values)) == ("thumbs", 10)
    file.write_text("better,worse,who\n" + rows(20, "{0}.jpg,a.jpg,me"))
    told = reading.read(file)
    assert (told.kind, told.pairs[1], len(told), len(told.photos)) == ("pairs", (2, 1), 20, 21)
    # A pair counts once, and what was judged both ways as often not at all.
    again = "0.jpg,a.jpg,me\na.jpg,1.jpg,me\nx.jpg,y.jpg,me\ny.jpg,x.jpg,me\n"
    file.write_text("better,worse,who\n" + rows(21, "{0}.jpg,a.jpg,me") + again)
    told = reading.read(file)
    assert len(told) == 20
    assert not {"1.jpg", "x.jpg"} & {*told.photos}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its columns must be"),
        ("file,score\n" + rows(20, "{0}.jpg,1"), "its columns must be"),
        ("path,score\n" + rows(19, "{0}.jpg,{0}"), "has 19 labels; 20 to 500"),
        ("path,score\n" + rows(501, "{0}.jpg,{0}"), "has 501 labels"),
        ("path,score\n" + rows(20, "{0}.jpg,3"), "all labels are 3"),
        ("path,thumb\n" + rows(20, "{0}.jpg,up"), "all labels are up; there must be photos of both kinds"),
        ("path,thumb\n" + rows(20, "{0}.jpg,maybe"), "line 2: 'maybe' is neither up nor down"),
        ("path,score\n" + rows(20, "{0}.jpg,high"), "line 2: 'high' is no number"),
        ("path,score\n" + rows(20, "{0}.jpg,inf"), "line 2: 'inf' is no number"),
        ("path,score\n" + rows(20, "{0}.jpg"), "line 2: a value is missing"),
        ("path,score\n" + rows(19, "{0}.jpg,{0}") + "3.jpg,9\n", "3.jpg has two labels"),
        ("better,worse\n" + rows(60, "a.jpg,b.jpg"), "has 1 different pairs that are clear"),
        ("path,score\n" + rows(20, "{0}.jpg,9e99"), "line 2: '9e99' is no number"),
        ('path,score\n"' + rows(20, "{0}.jpg,3") * 9000, "is no CSV file"),
        ("better,worse\n" + rows(20, "{0}.jpg,3.jpg"), "line 5: a photo cannot be better than itself"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(LabelError, match=words):
        reading.read(file)


def test_scores_beyond_their_scale(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,score\n" + rows(20, "{0}.jpg,{0}"))
    with pytest.raises(LabelError, match="scores lie from 0 to 19, not within 1 to 5"):
        reading.read(file, (1.0, 5.0))
    with pytest.raises(LabelError, match="the scale 0 to inf is too large"):
        reading.read(file, (0.0, float("inf")))
