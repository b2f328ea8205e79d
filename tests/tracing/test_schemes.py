"""Data sets named by their folder."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from mld_pipelines.compute import resolve
from mld_pipelines.datasets import KittiFolder, NuScenesFolder
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.tracing import find_registration, register_dataset
from mld_pipelines.tracing._schemes import SCHEMES
from tests.support.nuscenes_tables import NuScenesWriter

CAR = "Car 0.00 0 -1.40 600.00 150.00 700.00 250.00 1.50 1.80 4.00 2.00 1.60 10.00 -1.57"
CALIBRATION = """P2: 700 0 600 40 0 700 180 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""


@pytest.fixture
def kitti_folder(tmp_path):
    root = tmp_path / "kitti root"
    for folder, name, content in (
        ("velodyne", "000000.bin", bytes(32)), ("label_2", "000000.txt", CAR.encode()),
        ("calib", "000000.txt", CALIBRATION.encode()), ("ImageSets", "val.txt", b"000000"),
    ):  # fmt: skip
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_bytes(content)
    return root


def test_a_kitti_folder_needs_no_registration(lake, kitti_folder):
    found = find_registration(lake, f"kitti:{kitti_folder}?split=val&classes=Cyclist,Car", kind="dataset")
    folder = resolve(found.factory)(**found.params)
    assert isinstance(folder, KittiFolder)
    assert (folder.frame_ids, folder.classes) == (("000000",), ("Cyclist", "Car"))
    assert folder[0].truths.labels.tolist() == [1]


def test_a_relative_path_becomes_absolute_because_workers_start_elsewhere(lake, kitti_folder, monkeypatch):
    monkeypatch.chdir(kitti_folder.parent)
    found = find_registration(lake, "kitti:kitti%20root", kind="dataset")
    assert found.params == {"path": str(kitti_folder)}


def test_a_nuscenes_folder_is_named_with_its_version(lake, nuscenes_root):
    found = find_registration(lake, f"nuscenes:{nuscenes_root}?version=v1.0-mini", kind="dataset")
    folder = resolve(found.factory)(**found.params)
    assert isinstance(folder, NuScenesFolder)
    assert folder.frame_ids == ("a",)


@pytest.fixture
def nuscenes_root(tmp_path):
    writer = NuScenesWriter(tmp_path / "nuscenes", lidar2ego=np.eye(4))
    writer.add("a", ego2global=np.eye(4), time_us=0)
    return writer.write()


@pytest.mark.parametrize("ending", ["?splt=val", "?split=", "?split=a&split=b"])
def test_an_option_that_does_not_exist_is_refused(lake, kitti_folder, ending):
    with pytest.raises(InvalidInputError, match=r"kitti:/path\?option=value, each of split, points, classes"):
        find_registration(lake, f"kitti:{kitti_folder}{ending}", kind="dataset")


def test_a_folder_that_is_not_there_is_named(lake, tmp_path):
    with pytest.raises(NotFoundError, match="nothing_here is no folder"):
        find_registration(lake, f"kitti:{tmp_path / 'nothing_here'}", kind="dataset")


def test_a_registered_name_comes_first_and_models_have_no_folders(lake, kitti_folder):
    name = f"kitti:{kitti_folder}"
    register_dataset(lake, name, factory="trace_factories:Images")
    assert find_registration(lake, name, kind="dataset").factory == "trace_factories:Images"
    with pytest.raises(NotFoundError, match="no model"):
        find_registration(lake, name, kind="model")


def test_every_scheme_names_a_factory_whose_folder_takes_its_options():
    for scheme, folder in (("kitti", KittiFolder), ("nuscenes", NuScenesFolder)):
        factory, options = SCHEMES[scheme]
        assert resolve(factory).__name__ == scheme
        assert set(options) <= set(inspect.signature(folder).parameters)
