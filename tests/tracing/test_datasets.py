"""What a dataset factory may return."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trace_factories

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.tracing import open_dataset


def test_an_indexable_dataset_is_read_by_ranges_with_its_own_ids():
    reader = open_dataset("trace_factories:Images", {"n": 10})
    pixels, labels = trace_factories.images(10)
    examples = reader.read(3, 6)
    assert len(reader) == 10
    assert examples.input_ids == ["img-0003", "img-0004", "img-0005"]
    assert examples.labels == labels[3:6].tolist()
    np.testing.assert_array_equal(np.stack(examples.inputs), pixels[3:6])


@pytest.mark.parametrize("ranges", [[(0, 4), (4, 8), (8, 10)], [(8, 10), (0, 4), (4, 8)], [(4, 8), (4, 8)]])
def test_an_iterable_gives_the_same_items_whatever_the_order_of_ranges(ranges):
    reader = open_dataset("trace_factories:ImageStream", {"n": 10})
    labels = trace_factories.images(10)[1].tolist()
    assert len(reader) == 10
    for start, stop in ranges:
        examples = reader.read(start, stop)
        assert examples.input_ids == [str(index) for index in range(start, stop)]
        assert examples.labels == labels[start:stop]


def test_the_preprocessing_comes_with_the_dataset():
    assert open_dataset("trace_factories:make_raw_images").preprocess is trace_factories.scale
    assert open_dataset("trace_factories:Images").preprocess is None


def test_an_iterable_torch_dataset_with_a_length_is_iterated(monkeypatch):
    from torch.utils.data import IterableDataset

    class Sized(IterableDataset):
        def __len__(self):
            return 3

        def __iter__(self):
            return iter([(np.zeros(2), 0), (np.ones(2), 1), (np.ones(2), 0)])

    monkeypatch.setattr(trace_factories, "make_empty", Sized)
    assert open_dataset("trace_factories:make_empty").read(1, 3).labels == [1, 0]


@pytest.mark.parametrize("factory", ["make_generator", "make_number"])
def test_what_cannot_be_read_twice_is_refused(factory):
    with pytest.raises(ConfigurationError, match=factory):
        open_dataset(f"trace_factories:{factory}")


@pytest.mark.parametrize(("factory", "message"), [("make_bad_labels", "0.5"), ("make_bad_items", "must be \\(input")])
def test_a_malformed_item_is_named(factory, message):
    with pytest.raises(InvalidInputError, match=message):
        open_dataset(f"trace_factories:{factory}").read(0, 1)


@pytest.mark.parametrize(
    "target",
    [
        {"boxes_3d": torch.zeros(30, 7), "labels_3d": torch.zeros(30, dtype=torch.int64)},
        [{"boxes_3d": np.zeros((30, 7)), "labels_3d": np.zeros(30, int)}],
        torch.zeros(7, 7),
        np.zeros((1, 7)),
    ],
)
def test_frames_that_do_not_say_their_task_are_told_what_to_set(monkeypatch, target):
    monkeypatch.setattr(trace_factories, "make_empty", lambda: [(torch.zeros(9, 4), target, "street-1")])
    with pytest.raises(InvalidInputError, match=r"item 0 of .* set task = 'od3d' on the dataset") as caught:
        open_dataset("trace_factories:make_empty").read(0, 1)
    assert len(str(caught.value)) < 400


def test_frames_of_a_folder_behind_a_wrapper_are_told_what_to_set(monkeypatch):
    frame = SimpleNamespace(points=np.zeros((9, 4)), target={}, frame_id="street-1")
    monkeypatch.setattr(trace_factories, "make_empty", lambda: [frame])
    with pytest.raises(InvalidInputError, match="set task = 'od3d'"):
        open_dataset("trace_factories:make_empty").read(0, 1)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (torch.zeros(49), r"label \(a Tensor of shape \(49,\)\) of item 0"),
        (np.zeros(3), r"label \(a ndarray of shape \(3,\)\) of item 0"),
        ({"mask": torch.zeros(1000)}, r"label \(a dict of 1\) of item 0"),
        ("car" * 1000, "label 'carcar.*… of item 0"),
    ],
)
def test_a_label_that_is_no_class_is_named_in_short(monkeypatch, label, told):
    monkeypatch.setattr(trace_factories, "make_empty", lambda: [(np.zeros(2), label)])
    with pytest.raises(InvalidInputError, match=told) as caught:
        open_dataset("trace_factories:make_empty").read(0, 1)
    assert len(str(caught.value)) < 250


def test_a_dataset_that_ends_early_is_an_error_not_a_short_batch():
    with pytest.raises(InvalidInputError, match="ended at 10, before item 12"):
        open_dataset("trace_factories:ImageStream", {"n": 10}).read(8, 12)
