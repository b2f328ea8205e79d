from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from mld_pipelines.evaluation._names import automatic_name, checked_name
from mld_pipelines.exceptions import DuplicateResultError, InvalidInputError

DAY = datetime(2025, 12, 19, 23, 59, tzinfo=UTC)


@pytest.mark.feature("G4", "G5")
@pytest.mark.parametrize(
    ("key", "task", "expected"),
    [
        ("resnet18@v1", "classification", "resnet18_v1_classification_v1_20251219"),
        ("faster_rcnn@v1", "od", "faster_rcnn_v1_od_v1_20251219"),
        ("centerpoint@v1", "od3d", "centerpoint_v1_od3d_v1_20251219"),
    ],
)
def test_automatic_names_are_those_of_the_guides(key: str, task: str, expected: str) -> None:
    assert automatic_name(key, task, DAY, taken=()) == expected


@pytest.mark.feature("G4")
def test_the_counter_makes_a_second_name_unique() -> None:
    first = automatic_name("m@v", "od", DAY, taken=())
    second = automatic_name("m@v", "od", DAY, taken={first})
    assert re.fullmatch(r"m_v_od_v2_20251219", second)


@pytest.mark.feature("G3")
def test_a_taken_name_is_refused_by_name() -> None:
    with pytest.raises(DuplicateResultError, match="'mine' exists already"):
        checked_name("mine", taken={"mine"})


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 301])
def test_unusable_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        checked_name(name, taken=())


@pytest.mark.parametrize("name", ["../../etc/passwd", "o'brien", "日本語 1"])
def test_names_are_data_not_paths(name: str) -> None:
    assert checked_name(name, taken=()) == name
