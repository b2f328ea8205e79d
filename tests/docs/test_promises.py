"""Sentences of the documentation that the code has to keep."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from examples.drive.model import drive_model
from examples.drive.shapes import CLASS_NAMES
from mld_pipelines.adapters.detection3d import agreed_class_names
from mld_pipelines.datasets._kitti_files import KITTI_TYPES
from mld_pipelines.evaluation._stress import MIN_ORIGINALS as LEAST_INPUTS
from mld_pipelines.evaluation.detection._stress import MIN_ORIGINALS as LEAST_FRAMES
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_TRACES
from mld_pipelines.training import ClassificationTracer

DOCS = Path(__file__).resolve().parents[2] / "docs"


def words(page: str) -> str:
    return " ".join((DOCS / page).read_text(encoding="utf-8").split())


@pytest.mark.feature("B5")
def test_an_input_id_names_one_repeatable_input():
    """The guideline is documented, and one id per input is what a tracer takes and keeps."""
    assert "the smallest thing whose inference can be repeated: one image, one frame" in words("concepts/words.md")
    tracer = ClassificationTracer(nn.Linear(4, 3), "toy", "v1")
    with pytest.raises(InvalidInputError):
        tracer(torch.zeros(3, 4), [0, 1, 2], input_ids=["one for all"], dataset_type="val")
    tracer(torch.zeros(3, 4), [0, 1, 2], input_ids=["a", "b", "c"], dataset_type="val")
    tracer.wait_for_save()
    assert sorted(Lake.open().read(LANDING_TRACES)["input_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize("chapter", ["datasets.md", "detection3d.md", "drive.md"])
def test_folders_are_named_with_the_classes_in_the_order_of_the_examples_detector(chapter):
    (named,) = re.findall(r'trace run pillars [^"`]*"kitti:[^"]*classes=([\w,]+)', words(chapter))
    given = named.split(",")
    assert set(given) <= set(KITTI_TYPES)
    assert agreed_class_names(drive_model(), given, remedy="") == tuple(given)
    assert [one.lower() for one in given] == list(CLASS_NAMES)


def test_the_stress_page_says_how_many_inputs_and_frames_a_pass_needs():
    said = "fewer than 200 of its inputs teaches the estimate of a classifier nothing (of a [detector](#3d-detectors): "
    assert said + "fewer than 50 frames)" in words("stress.md")
    assert (LEAST_INPUTS, LEAST_FRAMES) == (200, 50)
    assert "of fewer than 200 originals (of a detector 50 frames)" in words("method.md")


def test_the_concepts_page_says_whose_definitions_they_are():
    assert "**The definitions are ours.**" in words("concepts/words.md")
