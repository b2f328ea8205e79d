"""Every built-in corruption: deterministic, blind to its batch, in range, harder when more severe, input untouched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.stress import (
    Family,
    Kind,
    TabularReference,
    image_families,
    point_families,
    tabular_families,
)

RNG = np.random.default_rng(0)
SIDE = 24
#: Smooth colour images with structure, away from the range's ends so that no change is lost to clipping alone.
GRID = np.stack(np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE)))
WAVES = RNG.uniform(2, 12, (12, 3, 2))
PHASES = RNG.uniform(0, 6, (12, 3, 1, 1))
IMAGES = (0.45 + 0.35 * np.sin(np.einsum("ncd,dhw->nchw", WAVES, GRID) + PHASES)).astype(np.float32)
TABLE = RNG.standard_normal((300, 9)) * np.linspace(0.1, 30, 9) + np.linspace(-5, 90, 9)
TABLE[:, 4] = RNG.integers(0, 5, 300)
TABULAR = tabular_families(TabularReference.fit(TABLE))
SCANS = [
    np.column_stack([RNG.normal(0, 20, (n, 2)), RNG.normal(-1, 1, n), RNG.uniform(0.1, 1, n)]).astype(np.float32)
    for n in (500, 700, 900, 1100)
]

CASES = [
    *((family, kind.name, IMAGES) for family in image_families() for kind in family.kinds),
    *((family, kind.name, TABLE[:40]) for family in TABULAR for kind in family.kinds),
    *((family, kind.name, SCANS) for family in point_families() for kind in family.kinds),
]
IDS = [f"{family.modality}-{kind}" for family, kind, _ in CASES]
cases = pytest.mark.parametrize(("family", "kind", "values"), CASES, ids=IDS)


def names(values) -> list[str]:
    return [f"input/{row}" for row in range(len(values))]


def run(family, kind, values, severity, *, seed=0, ids=None):
    return family.corrupt_batch(values, ids or names(values), kind=kind, severity=severity, seed=seed)


def test_built_in_families_are_those_of_the_design():
    assert {f.name: len(f.kinds) for f in image_families()} == {
        "noise": 4, "blur": 3, "light": 6, "geometry": 4, "digital": 4,
    }  # fmt: skip
    assert {f.name: len(f.kinds) for f in TABULAR} == {
        "noise": 2, "shift": 2, "scale": 2, "missing": 3, "digital": 2,
    }  # fmt: skip
    assert sum(len(f.kinds) for f in point_families()) == 7
    assert "intensity" not in {f.name for f in point_families(has_intensity=False)}


@cases
def test_the_same_input_always_becomes_the_same_and_is_left_alone(family, kind, values):
    before = [np.array(value) for value in values]
    first, second = run(family, kind, values, 3), run(family, kind, values, 3)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(values, before, strict=True):
        np.testing.assert_array_equal(one, other)


@cases
def test_what_an_input_becomes_does_not_depend_on_its_batch(family, kind, values):
    together = run(family, kind, values, 3)
    backwards = run(family, kind, list(values)[::-1], 3, ids=names(values)[::-1])[::-1]
    alone = [family.corrupt(v, kind=kind, severity=3, seed=0, input_id=i) for i, v in enumerate_names(values)]
    for one, other, third in zip(together, backwards, alone, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)


def enumerate_names(values):
    return zip(names(values), values, strict=True)


@cases
def test_every_severity_changes_inputs_and_more_on_average_the_higher_it_is(family, kind, values):
    """Severities 1, 3, 5 of the default stress pass; a cloud's distance is its loss or gain of points."""
    means = [np.mean([distance(a, b) for a, b in zip(run(family, kind, values, s), values, strict=True)])
             for s in (1, 3, 5)]  # fmt: skip
    assert means[0] > 0
    assert means[0] < means[1] < means[2]


def distance(changed: np.ndarray, given: np.ndarray) -> float:
    if changed.shape != given.shape:
        return abs(len(changed) - len(given)) / len(given)
    scale = 1.0 if given.ndim > 1 else TABLE.std(axis=0)
    return float(np.abs((changed - given) / scale).mean())


@cases
def test_dtype_is_kept_and_arrays_stay_writable_arrays(family, kind, values):
    for dtype in (np.float32, np.float64):
        value = np.asarray(values[0]).astype(dtype)
        changed = family.corrupt(value, kind=kind, severity=2, seed=0, input_id="a")
        assert changed.dtype == dtype
        assert changed.flags.writeable and not np.shares_memory(changed, value)


@pytest.mark.parametrize("family", image_families(), ids=lambda family: family.name)
def test_images_keep_their_shape_and_range_in_every_layout(family):
    """The extremes (black, white, checkerboard) are where an overshoot would show."""
    checker = np.indices((11, 14)).sum(axis=0) % 2.0
    colour = np.stack([np.zeros((11, 14)), np.ones((11, 14)), checker])
    for image in (colour, colour[:1], colour[:1][0], np.moveaxis(colour, 0, 2), np.ones((4, 7, 7)), np.zeros((1, 1))):
        for kind, severity in itertools.product(family.kinds, (1, 5)):
            changed = family.corrupt(image, kind=kind.name, severity=severity, seed=1, input_id="x")
            assert changed.shape == image.shape
            assert changed.min() >= 0.0
            assert changed.max() <= 1.0


@pytest.mark.parametrize("family", image_families(), ids=lambda family: family.name)
def test_channels_last_gives_the_same_picture_as_channels_first(family):
    for kind in family.kinds:
        first = run(family, kind.name, IMAGES, 3)
        last = run(family, kind.name, np.moveaxis(IMAGES, 1, 3), 3)
        np.testing.assert_array_equal(np.moveaxis(last, 3, 1), first)


def test_an_ambiguous_image_is_read_as_the_layout_that_was_named():
    image = np.full((3, 8, 3), 0.2)
    image[0] = 0.8
    family = next(f for f in image_families(layout="HWC") if f.name == "light")
    by_rows = family.corrupt(image, kind="saturation", severity=3, seed=0, input_id="a")
    np.testing.assert_allclose(by_rows, image)  # grey in HWC: nothing to fade
    family = next(f for f in image_families() if f.name == "light")
    by_channels = family.corrupt(image, kind="saturation", severity=3, seed=0, input_id="a")
    np.testing.assert_allclose(by_channels, 0.4)  # red in CHW: fades to its mean


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((3, 8, 8), 1.2), "0, 1"),
        (np.full((3, 8, 8), -0.01), "preprocess"),
        (np.full((3, 8, 8), np.nan), "nothing was corrupted"),
        (np.zeros((3, 8, 8), dtype=np.uint8), "divide 8-bit values by 255"),
        (np.zeros((7, 8, 9)), "layout"),
        (np.zeros((2, 3, 8, 8)), "one image"),
        (np.zeros((0, 8)), "one image"),
    ],
)
def test_what_is_no_image_between_0_and_1_is_refused_with_the_way_out(image, words):
    family = image_families()[0]
    with pytest.raises(InvalidInputError, match=words):
        family.corrupt(image, kind="gaussian_noise", severity=1, seed=0, input_id="a")


def test_rounding_of_an_inverted_normalisation_is_no_error():
    image = np.full((1, 4, 4), 1.0 + 2e-7)
    image[0, 0, 0] = -2e-7
    changed = image_families()[2].corrupt(image, kind="gamma", severity=1, seed=0, input_id="a")
    assert (changed.min(), changed.max()) == (0.0, 1.0)


def test_whole_number_and_constant_columns_stay_untouched_and_nan_stays_nan():
    table = TABLE.copy()
    table[:, 0] = 3.5
    table[2, 1] = np.nan
    for family in tabular_families(TabularReference.fit(table)):
        for kind in family.kinds:
            changed = run(family, kind.name, table[:40], 5)
            np.testing.assert_array_equal(changed[:, [0, 4]], table[:40, [0, 4]])
            assert np.isnan(changed[2, 1]) or kind.name in {"missing_cells", "missing_columns", "borrowed"}
            assert np.isfinite(np.delete(changed, 2, axis=0)).all()


def test_tabular_strengths_are_standard_deviations_of_the_reference():
    """`shift_up` at severity 3 moves every fourth column that may move by one standard deviation (hand calculation)."""
    shift = next(f for f in TABULAR if f.name == "shift")
    moved = run(shift, "shift_up", TABLE[:40], 3) - TABLE[:40]
    expected = np.zeros(9)
    expected[[0, 5]] = TABLE.std(axis=0)[[0, 5]]  # 4 holds whole numbers, so the fourth after 0 is 5
    np.testing.assert_allclose(moved, np.broadcast_to(expected, (40, 9)), atol=1e-9)


def test_lost_columns_are_the_same_for_every_row_and_hold_the_mean():
    missing = next(f for f in TABULAR if f.name == "missing")
    changed = run(missing, "missing_columns", TABLE[:40], 5)
    lost = (changed != TABLE[:40]).any(axis=0)
    assert lost.sum() == 4  # 45 % of the eight columns that may be touched, rounded up
    np.testing.assert_allclose(changed[:, lost], np.broadcast_to(TABLE.mean(axis=0)[lost], (40, 4)))


def test_borrowed_cells_follow_the_column_of_the_reference():
    missing = next(f for f in TABULAR if f.name == "missing")
    rows = np.full((3000, 9), 1e6)
    rows[:, 4] = 1
    changed = run(missing, "borrowed", rows, 5)
    borrowed = changed[:, 0][changed[:, 0] < 1e5]
    assert len(borrowed) == pytest.approx(0.45 * 3000, rel=0.1)
    assert borrowed.mean() == pytest.approx(TABLE[:, 0].mean(), abs=0.02)
    assert borrowed.std() == pytest.approx(TABLE[:, 0].std(), rel=0.1)


def test_a_tabular_reference_survives_json_bit_for_bit():
    import json

    reference = TabularReference.fit(TABLE)
    again = TabularReference.from_dict(json.loads(json.dumps(reference.to_dict())))
    for name in ("mean", "scale", "is_changed", "quantiles"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))


@pytest.mark.parametrize("table", [np.arange(12.0).reshape(4, 3), np.zeros((0, 3)), np.full((3, 2), np.inf)])
def test_a_table_without_a_column_to_corrupt_is_refused(table):
    with pytest.raises(InvalidInputError, match="no stress pass was prepared"):
        TabularReference.fit(table)


def test_scans_lose_what_the_design_says():
    """Shares of severities 1, 3, 5 within sampling noise; ranges and sectors by hand."""
    scan = np.column_stack([RNG.normal(0, 20, (40_000, 2)), RNG.normal(-1, 1, 40_000), RNG.uniform(0, 1, 40_000)])
    families = {kind.name: family for family in point_families() for kind in family.kinds}

    def kept(kind: str, severity: int) -> np.ndarray:
        return families[kind].corrupt(scan, kind=kind, severity=severity, seed=0, input_id="a")

    for severity, share in ((1, 0.9), (3, 0.7), (5, 0.4)):
        assert len(kept("drop", severity)) / len(scan) == pytest.approx(share, abs=0.01)
    for severity, factor in ((1, 0.7), (3, 0.4), (5, 0.2)):
        np.testing.assert_allclose(kept("faint", severity)[:, 3], scan[:, 3] * factor)
    for severity, metres in ((1, 0.02), (3, 0.05), (5, 0.10)):
        assert (kept("jitter", severity) - scan)[:, :3].std() == pytest.approx(metres, rel=0.02)
    assert len(kept("sector_loss", 3)) / len(scan) == pytest.approx(1 - 60 / 360, abs=0.02)
    assert len(kept("beam_drop", 3)) / len(scan) == pytest.approx(0.5, abs=0.01)
    far = np.quantile(np.linalg.norm(scan[:, :3], axis=1), 0.99)
    assert np.linalg.norm(kept("far_drop", 3)[:, :3], axis=1).max() == pytest.approx(far / 2, rel=0.01)
    added = kept("clutter", 5)[len(scan) :]
    assert len(added) == 8_000
    assert np.linalg.norm(added[:, :3], axis=1).max() <= 10.0 + 1e-9


def test_an_empty_scan_stays_empty_and_a_scan_without_intensity_is_refused():
    drop = point_families()[0]
    assert drop.corrupt(np.empty((0, 4)), kind="drop", severity=5, seed=0, input_id="a").shape == (0, 4)
    with pytest.raises(InvalidInputError, match="has_intensity=False"):
        drop.corrupt(np.zeros((5, 3)), kind="drop", severity=5, seed=0, input_id="a")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), input_id=st.text(max_size=8), other=st.text(max_size=8))
def test_seed_and_id_choose_the_noise(seed, input_id, other):
    noise = image_families()[0]
    image = np.full((1, 8, 8), 0.5)

    def corrupt(**changes):
        values = {"kind": "gaussian_noise", "severity": 3, "seed": seed, "input_id": input_id, **changes}
        return noise.corrupt(image, **values)

    np.testing.assert_array_equal(corrupt(), corrupt())
    assert not np.array_equal(corrupt(), corrupt(seed=seed + 1))
    assert np.array_equal(corrupt(), corrupt(input_id=other)) == (input_id == other)
    assert not np.array_equal((corrupt() - 0.5) / 0.07, (corrupt(severity=5) - 0.5) / 0.14)


def test_wrong_use_is_refused_with_what_exists():
    noise = image_families()[0]
    with pytest.raises(NotFoundError, match="gaussian_noise, shot_noise"):
        noise.corrupt(IMAGES[0], kind="rain", severity=1, seed=0, input_id="a")
    with pytest.raises(InvalidInputError, match="severity is 6"):
        noise.corrupt(IMAGES[0], kind="shot_noise", severity=6, seed=0, input_id="a")
    with pytest.raises(InvalidInputError, match="12 inputs came with 1 ids"):
        run(noise, "shot_noise", IMAGES, 1, ids=["a"])
    with pytest.raises(InvalidInputError, match="at least one kind"):
        Family("empty", (), "mine")


@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda x, severity, rng: x[:1], "Return the shape"), (lambda x, severity, rng: x * np.nan, "NaN or infinity")],
)
def test_what_a_users_corruption_returns_is_checked(function, words):
    family = Family("mine", (Kind("broken", function),), "mine")
    with pytest.raises(InvalidInputError, match=words):
        family.corrupt(np.ones(3), kind="broken", severity=1, seed=0, input_id="a")


def test_a_users_corruption_may_change_its_argument_without_touching_the_input():
    def wipe(value, severity, rng):
        value[:] = 0.0
        return value

    given = np.ones(3)
    changed = Family("mine", (Kind("wipe", wipe),), "mine").corrupt(
        given, kind="wipe", severity=1, seed=0, input_id="a"
    )
    np.testing.assert_array_equal(changed, 0.0)
    np.testing.assert_array_equal(given, 1.0)
