"""Groups of nearly equal photos, and the best of each."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model import images
from model.defects import DEFECTS
from model.images.capture import Capture
from model.picking import candidates, ranking, sequences
from model.picking.alignment import Structure, align
from model.picking.look import BYTES, CELLS, Look
from model.picking.photo import Photo
from model.picking.picking import Group, pick
from model.scorer import Scorer
from tests.conftest import EXAMPLES
from training import defects

Pixels = NDArray[np.uint8]
SCENES = {file.stem: np.asarray(Image.open(file).convert("RGB")) for file in EXAMPLES}


def photo(
    pixels_HWC: Pixels,
    name: str = "",
    *,
    score: float = 70.0,
    severities: Mapping[str, float] | None = None,
    capture: Capture | None = None,
    sha256: str | None = None,
) -> Photo:
    """A photo as a model would score it that sees what is told."""
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    picture = images.decode(file.getvalue())
    return Photo(
        name=name,
        score=score,
        severities={defect: (severities or {}).get(defect, 0.0) for defect in DEFECTS},
        description=tuple((pixels_HWC.reshape(-1, 3).mean(axis=0) / 255).tolist()),
        width=picture.facts.width,
        height=picture.facts.height,
        sha256=sha256 or picture.facts.sha256,
        look=replace(Look.at(picture), capture=capture or Capture()),
    )


def shifted(pixels_HWC: Pixels, down: int, right: int, margin: int = 24) -> Pixels:
    height, width, _ = pixels_HWC.shape
    return pixels_HWC[down : height - margin + down, right : width - margin + right]


def exposed(pixels_HWC: Pixels, stops: float) -> Pixels:
    made: Pixels = (pixels_HWC * 2.0 ** (stops / 2.2)).round().clip(0, 255).astype(np.uint8)
    return made


def damaged(pixels_HWC: Pixels, defect: str, severity: float = 0.6) -> Pixels:
    return defects.add(pixels_HWC, {defect: severity}, np.random.default_rng(0))


def places(groups: Sequence[Group]) -> list[tuple[str, list[int]]]:
    return [(group.kind, sorted(member.place for member in group.members)) for group in groups]


def burst(scene: str) -> list[Photo]:
    """An intact photo between two with a defect each."""
    pixels = SCENES[scene]
    return [
        photo(damaged(shifted(pixels, 3, 9), "motion_blur"), score=60, severities={"motion_blur": 0.6}),
        photo(shifted(pixels, 10, 4), score=72),
        photo(damaged(shifted(pixels, 8, 12), "noise"), score=55, severities={"noise": 0.6}),
    ]


def test_scenes_are_told_apart_and_the_intact_photo_wins() -> None:
    photos = [one for scene in SCENES for one in burst(scene)]
    groups = pick(photos)
    assert places(groups) == [("alike", [3 * at, 3 * at + 1, 3 * at + 2]) for at in range(len(SCENES))]
    for at, group in enumerate(groups):
        winner, runner_up = group.winner, group.runner_up
        assert winner is not None
        assert runner_up is not None
        assert winner.place == 3 * at + 1
        assert {"least_motion_blur", "least_noise", "highest_score"} <= {*group.reasons}
        assert winner.preferred is None
        assert 0.5 < (runner_up.preferred or 0) <= (group.members[2].preferred or 0) < 1
        assert {member.worse[0][0] for member in group.members[1:]} == {"motion_blur", "noise"}


def test_the_order_of_photos_does_not_matter() -> None:
    photos = [one for scene in SCENES for one in burst(scene)]
    order = np.random.default_rng(1).permutation(len(photos)).tolist()
    found = {frozenset(order[member.place] for member in group.members) for group in pick([photos[at] for at in order])}
    assert found == {frozenset(range(3 * at, 3 * at + 3)) for at in range(len(SCENES))}


def test_one_photo_is_single_and_none_is_nothing() -> None:
    assert pick([]) == []
    (group,) = pick([photo(SCENES["cat"])])
    assert (group.kind, group.reasons, group.runner_up) == ("single", (), None)
    assert group.winner is not None


def test_copies_of_a_file_are_told() -> None:
    same = photo(SCENES["coffee"], sha256="a" * 64)
    other = photo(shifted(SCENES["coffee"], 5, 5), score=40, severities={"defocus": 0.8})
    (group,) = pick([same, other, replace(same, name="copy")])
    assert [(member.place, member.same_file_as) for member in group.members] == [(0, None), (2, 0), (1, None)]
    assert group.members[1].preferred is None
    assert group.runner_up is not None
    assert group.runner_up.place == 1, "a copy is no other choice"


def test_equal_photos_are_called_so() -> None:
    (group,) = pick([photo(shifted(SCENES["rocket"], at, at)) for at in (2, 8)])
    assert group.reasons == ("nearly_equal",)


def test_a_group_is_a_json_object() -> None:
    group = pick(burst("cat"))[0].to_dict()
    assert group["winner"] == 1
    assert group["members"][1]["worse"][0].keys() == {"defect", "by"}


def test_a_subject_out_of_focus_loses_to_one_that_is_sharp() -> None:
    pixels = SCENES["astronaut"]
    blurred = damaged(pixels, "defocus", 0.7)
    height, width, _ = pixels.shape
    y, x = np.mgrid[:height, :width]
    subject = (np.hypot((x - width / 2) / width, (y - height / 2) / height) < 0.3)[..., None]
    on_subject, beside_it = np.where(subject, pixels, blurred), np.where(subject, blurred, pixels)
    # The frame as a whole is sharper beside the subject: most of it is there.
    sharp = ranking.sharpness([photo(on_subject), photo(beside_it)])
    assert sharp[0] > sharp[1] + ranking.SHARPER


def test_of_two_that_are_as_sharp_the_larger_shows_more() -> None:
    small = np.asarray(Image.fromarray(SCENES["coffee"]).resize((300, 200), Image.Resampling.LANCZOS))
    first, second = photo(SCENES["coffee"]), photo(small)
    assert ranking.rank([second, first]).order[0] == 1
    assert "most_pixels" in ranking.rank([second, first]).reasons


def test_light_and_colours_unlike_the_others_count_against_a_photo() -> None:
    pixels = SCENES["coffee"]
    reddish = (pixels * np.array([1.25, 1.0, 0.8])).clip(0, 255).astype(np.uint8)
    photos = [photo(shifted(pixels, at, at)) for at in (1, 6, 11)] + [photo(reddish), photo(exposed(pixels, 1.2))]
    order = ranking.rank(photos).order
    assert {*order[-2:]} == {3, 4}


def test_weights_have_the_signs_that_they_must() -> None:
    weights = ranking.weights()
    assert len(weights) == ranking.features([photo(SCENES["cat"])]).shape[1]
    assert (weights[0] > 0) & (weights[1 + len(DEFECTS)] > 0)
    assert (np.delete(weights, [0, 1 + len(DEFECTS)]) < 0).all()


@pytest.mark.parametrize("told", ["by the camera", "by bias", "by exposure", "by the pictures"])
def test_brackets_are_kept_whole(told: str) -> None:
    def capture(stops: float) -> Capture:
        return {
            "by the camera": Capture(bracketed=True),
            "by bias": Capture(bias=stops, camera="a", taken=stops),
            "by exposure": Capture(exposure=stops, camera="a", taken=stops),
            "by the pictures": Capture(),
        }[told]

    pixels = SCENES["coffee"]
    photos = [
        photo(exposed(shifted(pixels, 4 + at, 4), stops), capture=capture(stops))
        for at, stops in enumerate((-1.5, 0.0, 1.5))
    ]
    assert places(pick([*photos, photo(SCENES["cat"])])) == [("bracket", [0, 1, 2]), ("single", [3])]
    (bracket, _) = pick([*photos, photo(SCENES["cat"])])
    assert bracket.winner is None
    assert bracket.to_dict()["winner"] is None


def test_brackets_are_found_among_other_photos_of_their_scene() -> None:
    pixels = SCENES["coffee"]

    def shot(at: int, stops: float, sha256: str | None = None) -> Photo:
        taken = Capture(bias=stops, camera="a", taken=100.0 + at)
        return photo(exposed(shifted(pixels, 4 + at % 4, 4), stops), capture=taken, sha256=sha256)

    twice = [shot(at, stops) for at, stops in enumerate((-2.0, -1.0, 0.0, -2.0, -1.0, 0.0))]
    assert places(pick(twice)) == [("bracket", [0, 1, 2]), ("bracket", [3, 4, 5])]
    more = [shot(at, stops) for at, stops in enumerate((0.0, -1.5, 0.0, 1.5))]
    assert places(pick(more)) == [("single", [0]), ("bracket", [1, 2, 3])]
    # A copy stays with what it is a copy of.
    copied = [*(shot(at, stops, f"{at}") for at, stops in enumerate((-1.5, 0.0, 1.5))), shot(9, 0.0, "1")]
    assert places(pick(copied)) == [("bracket", [0, 1, 2, 3])]


def test_a_photo_is_in_one_group() -> None:
    row = panorama("coffee", 3)
    there_and_back = [photo(frame) for frame in (*row, *row[-2::-1])]
    found = [place for _, group in places(pick(there_and_back)) for place in group]
    assert sorted(found) == list(range(5))


def test_a_copy_stands_behind_its_original_whatever_it_scores() -> None:
    first, copy = (photo(SCENES["cat"], sha256="a" * 64, score=score) for score in (70.0, 70.1))
    other = photo(shifted(SCENES["cat"], 4, 4), score=50.0)
    (group,) = pick([first, copy, other])
    assert [member.place for member in group.members] == [0, 1, 2]
    assert group.runner_up is not None
    assert group.runner_up.place == 2


def test_a_camera_that_follows_the_light_makes_no_bracket() -> None:
    pixels = SCENES["coffee"]
    photos = [photo(shifted(pixels, 4 + at, 4), capture=Capture(exposure=1.0 * at, camera="a")) for at in range(3)]
    assert sequences.brackets(photos) == []
    assert not sequences.brackets([photo(exposed(pixels, stops)) for stops in (-0.2, 0.0, 0.3)])
    assert not sequences.brackets([photo(exposed(pixels, stops)) for stops in (-1.5, 1.5)])


def stack(count: int) -> list[Pixels]:
    """A tilted plane, each time sharp in another strip."""
    pixels = SCENES["coffee"]
    levels = [
        pixels,
        damaged(pixels, "defocus", 0.4),
        damaged(pixels, "defocus", 0.65),
        damaged(pixels, "defocus", 0.85),
    ]
    depth = np.broadcast_to(np.linspace(0, 1, pixels.shape[1])[:, None], pixels.shape)
    planes = (np.arange(count) + 0.5) / count
    return [np.choose((np.abs(depth - plane) * 6).astype(int).clip(max=3), levels) for plane in planes]


def test_focus_stacks_are_kept_whole() -> None:
    frames = [photo(frame) for frame in stack(5)]
    assert places(pick(frames)) == [("focus_stack", [0, 1, 2, 3, 4])]
    # Three are few, unless the camera tells that it focused farther and farther.
    three = [photo(frame, capture=Capture(distance=1.0 + at)) for at, frame in enumerate(stack(3))]
    assert sequences.focus_stack(three)
    assert not sequences.focus_stack([photo(frame) for frame in stack(3)])
    # In any other order, and where one photo is the sharpest everywhere, it is none.
    assert not sequences.focus_stack([frames[at] for at in (2, 0, 4, 1, 3)])
    blurred = [photo(damaged(SCENES["coffee"], "defocus", severity)) for severity in (0.9, 0.6, 0.3, 0.5, 0.8)]
    assert not sequences.focus_stack(blurred)


def panorama(scene: str, count: int, width: float = 0.5) -> list[Pixels]:
    pixels = SCENES[scene]
    wide = round(width * pixels.shape[1])
    lefts = np.linspace(0, pixels.shape[1] - wide, count).round().astype(int)
    return [pixels[:, left : left + wide] for left in lefts]


def test_panoramas_are_kept_whole() -> None:
    row = [photo(frame, capture=Capture(camera="a", taken=3.0 * at)) for at, frame in enumerate(panorama("coffee", 3))]
    single = photo(SCENES["cat"], capture=Capture(camera="a", taken=100.0))
    assert places(pick([single, *row])) == [("single", [0]), ("panorama", [1, 2, 3])]
    # Two are not enough, and neither are three that were taken on different days.
    assert not list(sequences.panoramas(row, [0, 1]))
    days = [
        replace(one, look=replace(one.look, capture=Capture(camera="a", taken=1e5 * at))) for at, one in enumerate(row)
    ]
    assert not list(sequences.panoramas(days, [0, 1, 2]))
    # There and back again is none either.
    assert not list(sequences.panoramas(row, [0, 1, 0]))


def test_pictures_lie_over_each_other_where_they_were_shifted_to() -> None:
    pixels = SCENES["astronaut"]
    one, other = (Structure(photo(shifted(pixels, *by, margin=80)).look.luma_HW) for by in ((0, 0), (40, 60)))
    found = align(one, other, overlap=0.5)
    assert found.agreement > 0.8
    side = pixels.shape[0] - 80
    assert (found.down, found.across) == pytest.approx((40 / side, 60 / side), abs=0.03)
    larger = pixels[18:-18, 18:-18]
    assert align(Structure(photo(pixels).look.luma_HW), Structure(photo(larger).look.luma_HW), overlap=0.5).scale < 1


def test_candidates_are_few() -> None:
    rng = np.random.default_rng(0)
    for count in (50, 400):
        layouts, descriptions = rng.normal(size=(count, 5)).astype("f4"), rng.normal(size=(count, 5)).astype("f4")
        found = candidates.pairs(layouts, descriptions, [Capture()] * count)
        assert len(found) <= (2 * candidates.NEIGHBOURS + 1) * count
        assert all(one < other for one, other in found)
    timed = [Capture(camera="a", taken=float(second)) for second in (0, 500, 4)]
    apart = np.array([[0.0], [1.0], [50.0]], "f4")
    assert (0, 2) in candidates.pairs(apart, apart, timed)


def test_looks_and_photos_survive_being_written() -> None:
    own = photo(SCENES["cat"], "cat.jpg", capture=Capture(taken=5.0, camera="a"))
    assert len(own.look.to_bytes()) == BYTES
    again = Photo.from_dict(own.to_dict())
    assert replace(again, look=own.look) == own
    assert again.look.to_bytes() == own.look.to_bytes()
    with pytest.raises(ValueError, match="a look has"):
        Look.from_bytes(b"short", Capture())


def test_acuity_falls_with_blur_and_not_with_light() -> None:
    pixels = SCENES["astronaut"]

    def acuity(own: Pixels) -> float:
        look = photo(own).look
        return float(np.average(look.acuity_HW, weights=look.contrast_HW))

    assert acuity(damaged(pixels, "defocus", 0.3)) < 0.9 * acuity(pixels)
    assert acuity(exposed(pixels, -1)) == pytest.approx(acuity(pixels), rel=0.15)
    # Single wrong pixels are no edges.
    wrong = np.where(np.random.default_rng(0).random((*pixels.shape[:2], 1)) < 0.005, np.uint8(255), pixels)
    assert acuity(wrong) == pytest.approx(acuity(pixels), rel=0.1)
    # Tiny pictures have no blocks to look at.
    assert photo(pixels[:40, :40]).look.acuity_HW.tolist() == np.zeros((CELLS, CELLS)).tolist()


def test_faces_are_seen() -> None:
    from model.picking import faces

    seen: dict[str, Any] = {name: faces.found(Image.fromarray(pixels)) for name, pixels in SCENES.items()}
    assert seen == {"astronaut": True, "cat": False, "coffee": False, "rocket": False}


def test_scorers_make_photos(whole_folder: Path) -> None:
    scorer = Scorer.load(whole_folder, device="cpu", precision="fp32")
    sources: list[Path | bytes] = [EXAMPLES[0], EXAMPLES[1].read_bytes(), b"nothing"]
    (_, first), (_, second), (_, error) = scorer.photos(sources)
    assert isinstance(first, Photo)
    assert isinstance(second, Photo)
    assert (first.name, second.name) == (str(EXAMPLES[0]), "")
    assert first.score == scorer.score(EXAMPLES[0]).score
    assert len(first.description) == 6
    assert isinstance(error, images.ImageError)


def test_a_model_without_descriptions_makes_no_photos(checkpoint_folder: Path) -> None:
    scorer = Scorer.load(checkpoint_folder, device="cpu", precision="fp32")
    with pytest.raises(ValueError, match="describes none"):
        list(scorer.photos(EXAMPLES[:1]))
