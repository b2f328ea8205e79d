"""Sentences of the documentation that the code has to keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

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


def test_the_concepts_page_says_whose_definitions_they_are():
    assert "**The definitions are ours.**" in words("concepts/words.md")
