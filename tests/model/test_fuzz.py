"""A few of the damaged pictures that ``make fuzz`` decodes by the hundred thousand."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import KINDS, OUTCOMES, damaged, outcome
from model import images
from tests.model.mutations import MUTATIONS, NAMES, PNG_SIGNATURE, SEEDS, mutate, with_checksums


def test_seeds_are_sound_and_of_every_format() -> None:
    for name in NAMES:
        format_ = name.partition("-")[0]
        facts = images.decode(SEEDS[name]).facts
        assert facts.format == ("JPEG" if format_ == "MPO" else format_)
    assert {*KINDS} == {*images.FORMATS, "MPO"}


def test_files_are_the_same_in_every_run() -> None:
    assert [damaged(index) for index in range(64)] == [damaged(index) for index in range(64)]
    assert len({data for _, data in map(damaged, range(256))}) > 200


def test_every_mutation_takes_every_picture() -> None:
    for name in NAMES:
        for mutation in MUTATIONS:
            changed = {mutate(SEEDS[name], [mutation], random.Random(seed)) for seed in range(3)}
            assert any(data != SEEDS[name] for data in changed), (name, mutation)
            assert {outcome(data) for data in changed} <= {*OUTCOMES}, (name, mutation)


def test_checksums_are_put_right() -> None:
    data = SEEDS["PNG-colour"]
    assert data.startswith(PNG_SIGNATURE)
    broken = data[:30] + b"\0\0\0\0" + data[34:]
    assert broken != data
    assert with_checksums(broken) == with_checksums(data) == data


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_damaged_pictures_end_in_documented_errors(name: str, mutations: list[str], seed: int) -> None:
    assert outcome(mutate(SEEDS[name], mutations, random.Random(seed))) in OUTCOMES


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=200), st.sampled_from(NAMES), st.integers(0, 64))
def test_beginnings_with_anything_behind_end_in_documented_errors(tail: bytes, name: str, length: int) -> None:
    assert outcome(SEEDS[name][:length] + tail) in OUTCOMES


def test_damaged_jpegs_end_alike_at_any_scale() -> None:
    def end(data: bytes, side: int | None) -> images.Facts | type[images.ImageError]:
        try:
            return images.decode(data, enough=None if side is None else lambda *_: (side, side)).facts
        except images.ImageError as error:
            return type(error)

    jpegs = [index for index in range(32 * len(NAMES)) if NAMES[index % len(NAMES)].startswith(("JPEG", "MPO"))]
    ends = {end(data, None) for _, data in map(damaged, jpegs)}
    assert {images.TruncatedImage, images.UndecodableImage} < ends
    for _, data in map(damaged, jpegs):
        # What is too large in full may not be at a smaller scale.
        full = end(data, None)
        assert full is images.TooManyPixels or full == end(data, 50) == end(data, 1)
