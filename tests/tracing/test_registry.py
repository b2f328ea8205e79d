"""Registering models and datasets by name."""

from __future__ import annotations

import pytest

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError, NotFoundError
from mld_pipelines.lake import Lake
from mld_pipelines.tracing import find_registration, list_registrations, register_dataset, register_model

MODEL = {"factory": "trace_factories:make_model", "model_name": "cnn", "version_name": "v1"}


def test_a_registration_is_found_by_another_process_of_the_same_lake(lake, tmp_path):
    register_model(lake, "cnn", **MODEL, params={"seed": 3})
    found = find_registration(Lake(str(tmp_path / "lake"), code_version="other"), "cnn", kind="model")
    assert found.factory == "trace_factories:make_model"
    assert found.params == {"seed": 3}
    assert found.model_key == "cnn@v1"


def test_registering_again_replaces_only_that_name(lake):
    register_model(lake, "cnn", **MODEL)
    register_model(lake, "other", **MODEL)
    register_model(lake, "cnn", **MODEL, params={"seed": 9})
    assert [(entry.name, entry.params) for entry in list_registrations(lake)] == [("cnn", {"seed": 9}), ("other", {})]


def test_a_model_and_a_dataset_may_share_a_name(lake):
    register_model(lake, "digits", **MODEL)
    register_dataset(lake, "digits", factory="trace_factories:Images", params={"n": 5})
    assert find_registration(lake, "digits", kind="model").factory == "trace_factories:make_model"
    assert find_registration(lake, "digits", kind="dataset").params == {"n": 5}
    assert [entry.kind for entry in list_registrations(lake)] == ["dataset", "model"]


def test_an_unknown_name_lists_those_that_exist(lake):
    with pytest.raises(NotFoundError, match="registered models: none"):
        find_registration(lake, "cnn", kind="model")
    register_model(lake, "cnn", **MODEL)
    with pytest.raises(NotFoundError, match="'cnn'"):
        find_registration(lake, "ccn", kind="model")


@pytest.mark.parametrize(
    ("factory", "error"),
    [
        ("trace_factories.make_model", InvalidInputError),
        ("trace_factories:no_such", ConfigurationError),
        ("no_such_module_here:make", ConfigurationError),
        ("trace_factories:CLASSES", ConfigurationError),
    ],
)
def test_a_factory_that_cannot_be_called_is_refused_at_registration(lake, factory, error):
    with pytest.raises(error, match=factory.replace(".", r"\.")):
        register_dataset(lake, "digits", factory=factory)
    assert list_registrations(lake) == []


@pytest.mark.parametrize("name", ["", " cnn", "a\nb"])
def test_malformed_names_are_refused(lake, name):
    with pytest.raises(InvalidInputError, match="registration name"):
        register_model(lake, name, **MODEL)


def test_a_malformed_model_name_is_refused_at_registration(lake):
    with pytest.raises(InvalidInputError, match="model_name"):
        register_model(lake, "cnn", factory="trace_factories:make_model", model_name="a@b", version_name="v1")


def test_a_dataset_has_no_model_key(lake):
    with pytest.raises(InvalidInputError, match="only models"):
        _ = register_dataset(lake, "digits", factory="trace_factories:Images").model_key
