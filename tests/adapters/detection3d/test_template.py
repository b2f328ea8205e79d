"""The template for another family: a stand-in of the model, and what every family must hold to.

Copy this file, put a stand-in of the code base in place of `Boxnet` (class names, attribute paths and output as in its
source, with the commit), and compare values the code base itself computes. `docs/detectors.md` has the recipe.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters.detection3d import Family, Setting, Settings3D, _families
from mld_pipelines.adapters.detection3d._settings import first_found, first_range
from mld_pipelines.adapters.detection3d._signals import mro_names
from mld_pipelines.adapters.detection3d._structural import StructuralAdapter
from tests.support.detector_contract import check_contract

pytestmark = pytest.mark.torch


class Boxnet(nn.Module):
    """One box per frame at the mean of its points, in OpenPCDet's convention."""

    def __init__(self):
        super().__init__()
        self.limits = {"score": 0.25, "range": [0.0, -10.0, -3.0, 20.0, 10.0, 1.0]}
        self.size = nn.Parameter(torch.tensor([4.0, 2.0, 1.5]))

    def forward(self, clouds):
        boxes = [torch.cat([cloud[:, :3].mean(0), self.size, torch.tensor([0.5])])[None] for cloud in clouds]
        return [{"boxes_3d": box, "scores_3d": torch.ones(1), "labels_3d": torch.zeros(1).long()} for box in boxes]


class BoxnetAdapter(StructuralAdapter):
    """Ten lines for a detector whose output has known keys: name, convention, and where its thresholds are."""

    family = "boxnet"

    def __init__(self, model, *, convention=None):
        super().__init__(model, convention=convention or "openpcdet")

    @property
    def settings(self):
        unknown = Setting(None, "fallback")
        return Settings3D(
            first_found(self._model, ["limits.score"]), unknown, unknown, first_range(self._model, ["limits.range"])
        )


def matches(model):
    return ("class Boxnet",) if "Boxnet" in mro_names(model) and hasattr(model, "limits") else None


@pytest.fixture
def family(monkeypatch):
    """The family as if its module stood in `_families._MODULES`."""
    family = Family("boxnet", frozenset({"boxnet"}), matches, BoxnetAdapter)
    known = (*_families.families(), family)
    monkeypatch.setattr("mld_pipelines.adapters.detection3d._recognise.families", lambda: known)
    return family


@pytest.fixture
def clouds():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(20, 4, generator=generator), torch.rand(30, 4, generator=generator)]


def test_the_family_holds_to_the_contract(family, clouds):
    check_contract(Boxnet().eval(), clouds, family="boxnet", frames=2)


def test_boxes_are_canonical(family, clouds):
    _, (frame, _) = check_contract(Boxnet().eval(), clouds, family="boxnet", frames=2)
    centre = clouds[0][:, :3].mean(0).numpy()
    np.testing.assert_allclose(frame.boxes[0], [*centre, 2.0, 4.0, 1.5, 0.5], rtol=1e-6)


def test_thresholds_say_where_they_come_from(family):
    settings = BoxnetAdapter(Boxnet()).settings
    assert settings.score_thresh == Setting(0.25, "model:limits.score")
    assert settings.pc_range.source == "model:limits.range"


def test_it_is_found_by_its_name_as_well(family):
    from mld_pipelines.adapters.detection3d import identify

    assert identify(Boxnet(), "boxnet").family is family
