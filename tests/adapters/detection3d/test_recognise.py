"""A live detector is recognised by its head, or refused with what was seen."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn

from mld_pipelines.adapters.detection3d import _mmdet3d_center, families, identify, recognise
from mld_pipelines.exceptions import InvalidInputError, UnrecognisedModelError
from tests.support import mmdet3d_stubs as stubs

pytestmark = pytest.mark.torch


class Lightning(nn.Module):
    """A module of the user's own around a detector."""

    def __init__(self, **detectors):
        super().__init__()
        self.loss = nn.MSELoss()
        self.parts = nn.ModuleDict(detectors)


class MMDataParallel(nn.DataParallel):
    """What mmcv wraps models in."""


@pytest.fixture
def alone(tmp_path):
    """A process group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Renamed(stubs.VoxelNet):
    """A user's subclass."""


class Other(nn.Module):
    """Nothing a family knows."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 3)
        self.heads = nn.ModuleDict({"seg": nn.Linear(3, 3)})


@pytest.mark.feature("F1", "F5")
@pytest.mark.parametrize(
    ("model", "family"),
    [
        (stubs.VoxelNet, "mmdet3d-anchor"),
        (stubs.MVXFasterRCNN, "mmdet3d-anchor"),
        (stubs.CenterPoint, "mmdet3d-centerpoint"),
        (stubs.PETR, "mmdet3d-query"),
        (stubs.BEVFusion, "mmdet3d-transfusion"),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v0"])
def test_the_head_decides(model, family, version):
    assert recognise(model(version)).family == family


def test_evidence_names_class_version_and_head():
    evidence = identify(stubs.CenterPoint("v0")).evidence
    assert evidence[0] == "base class Base3DDetector"
    assert "0.x" in evidence[1]
    assert evidence[2] == "head pts_bbox_head: CenterHead"


@pytest.mark.feature("F8")
def test_a_detector_called_bevdet_is_read_by_its_heatmap_head():
    model = stubs.CenterPoint("v0")
    model.__class__ = type("BEVDet", (stubs.CenterPoint,), {})
    assert recognise(model).family == "mmdet3d-centerpoint"


def test_a_subclass_is_recognised():
    assert recognise(Renamed()).family == "mmdet3d-anchor"


# torch.compile imports torch's own deprecated scripting
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(nn.DataParallel, id="DataParallel"),
        pytest.param(MMDataParallel, id="a subclass of DataParallel"),
        pytest.param(torch.compile, id="compile"),
        pytest.param(lambda model: torch.compile(nn.DataParallel(model)), id="compile of DataParallel"),
        pytest.param(lambda model: Lightning(net=model), id="Lightning"),
        pytest.param(lambda model: nn.DataParallel(Lightning(net=model)), id="DataParallel of Lightning"),
        pytest.param(lambda model: Lightning(net=nn.DataParallel(model)), id="Lightning of DataParallel"),
    ],
)
def test_wrappers_are_looked_through(wrap):
    inner = stubs.VoxelNet()
    found = identify(wrap(inner))
    assert found.model is inner
    assert found.family.name == "mmdet3d-anchor"


def test_a_detector_that_is_trained_on_several_machines_is_looked_through(alone):
    inner = stubs.VoxelNet()
    for wrapped in (
        nn.parallel.DistributedDataParallel(inner),
        Lightning(net=nn.parallel.DistributedDataParallel(inner)),
    ):
        found = identify(wrapped)
        assert (found.model is inner, found.family.name) == (True, "mmdet3d-anchor")


def test_the_place_inside_a_module_of_the_users_is_named():
    assert identify(Lightning(net=stubs.VoxelNet())).path == "parts.net"


def test_the_same_detector_under_two_names_is_one():
    model = stubs.VoxelNet()
    assert identify(Lightning(net=model, ema=model)).model is model


def test_two_detectors_inside_are_refused_with_both_places():
    with pytest.raises(UnrecognisedModelError, match=r"2 detectors: parts\.net .*parts\.ema .*pass the one you mean"):
        recognise(Lightning(net=stubs.VoxelNet(), ema=stubs.CenterPoint()))


@pytest.mark.feature("F1")
def test_an_unknown_model_is_refused_with_what_was_seen():
    with pytest.raises(UnrecognisedModelError) as caught:
        recognise(Other())
    message = str(caught.value)
    assert "test_recognise.Other" in message
    assert "backbone: Linear, heads: ModuleDict" in message
    assert "nothing was recorded" in message
    assert "architecture=" in message
    assert any("backbone: Linear" in line for line in caught.value.evidence)


def test_the_refusal_is_an_input_error():
    assert issubclass(UnrecognisedModelError, InvalidInputError)


@pytest.mark.parametrize("model", [None, "model.pth", 3, print])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(UnrecognisedModelError, match="no known 3D detector"):
        recognise(model)


def test_a_family_named_as_architecture_is_taken_without_looking():
    model = stubs.CenterPoint()
    model.__class__ = type("Mine", (nn.Module,), {})
    assert identify(model, "mmdet3d-centerpoint").evidence == ("architecture='mmdet3d-centerpoint'",)
    assert recognise(model, "mmdet3d-centerpoint").family == "mmdet3d-centerpoint"


@pytest.mark.parametrize("name", ["centerpoint", "CenterPoint", "BEVDet", "mmdet3d_centerpoint"])
def test_architecture_names_are_read_without_case_and_separators(name):
    assert recognise(stubs.CenterPoint(), name).family == "mmdet3d-centerpoint"


def test_an_architecture_that_does_not_fit_is_refused():
    with pytest.raises(UnrecognisedModelError, match="not recognised as 'pointpillars'"):
        recognise(stubs.CenterPoint(), "pointpillars")


def test_a_known_head_that_is_built_differently_is_read_as_detections_alone(monkeypatch, caplog):
    class Strange(stubs.CenterPoint):
        """A fork of another build."""

    model = Strange()
    monkeypatch.setattr(_mmdet3d_center.CenterAdapter, "taps", lambda self: self.no_such_thing)
    adapter = recognise(model)
    assert adapter.family == "mmdet3d"
    assert "Strange has the head of mmdet3d-centerpoint but is not built like one" in caplog.text
    with pytest.raises(UnrecognisedModelError, match="is not built like one"):
        recognise(model, "mmdet3d-centerpoint")


DETECTIONS_ALONE = {"mit-bevfusion", "bevformer", "streampetr", "openpcdet", "openpcdet-anchor", "structural"} | {
    family.name for family in families() if family.name.startswith("mmdet3d")
}
"""Families that record what comes out where a head lacks what their decoding needs: nothing of the model is asked."""


@pytest.mark.parametrize("name", sorted({family.name for family in families()} - DETECTIONS_ALONE))
def test_a_model_that_is_not_built_like_the_family_named_is_refused_with_what_was_seen(name):
    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(1, 1)

    with pytest.raises(UnrecognisedModelError, match=f"Empty was taken for {name} .* but is not built like one") as got:
        recognise(Empty(), name)
    assert "encoder: Linear" in str(got.value)
    assert got.value.evidence


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(UnrecognisedModelError, match=r"'yolo' is not known.*centerpoint.*pointpillars"):
        recognise(stubs.CenterPoint(), "yolo")


def test_a_named_family_is_also_found_inside_a_module_of_the_users():
    inner = stubs.CenterPoint()
    assert identify(Lightning(net=inner), "mmdet3d-centerpoint").model is inner


def test_family_names_are_distinct():
    names = [family.name for family in families()]
    assert len(names) == len(set(names))


def test_a_class_of_the_same_name_from_elsewhere_is_no_detector_of_mmdetection3d():
    """Three code bases have a CenterPoint; without the base class a name proves nothing."""
    model = type("CenterPoint", (nn.Module,), {})()
    model.pts_bbox_head = nn.Linear(3, 3)
    with pytest.raises(UnrecognisedModelError):
        recognise(model)


def test_recognising_changes_nothing():
    model = stubs.lively(stubs.CenterPoint())
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapter = recognise(model)
    adapter.taps()
    adapter.decoder()
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
