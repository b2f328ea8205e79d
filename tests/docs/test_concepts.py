"""The numbers and pictures of docs/concepts/ come from measurements, and the sentences around them still hold."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from docs import generate, measure, numbers
from docs.pictures import PICTURES, SITUATIONS

CONCEPTS = generate.DOCS / "concepts"


@pytest.fixture(scope="module")
def data():
    return numbers.load()


def test_every_generated_file_is_current():
    behind = [path.name for path, content in generate.files().items() if path.read_text(encoding="utf-8") != content]
    assert behind == [], "run `make docs` and commit what it writes"


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_picture_is_complete_and_small_and_shown(data, name):
    drawn = PICTURES[name](data)
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert len(drawn) < 50_000
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert [page for page in CONCEPTS.glob("*.md") if f"pictures/{name}.svg" in page.read_text(encoding="utf-8")]


def test_no_picture_is_left_over():
    assert {path.stem for path in (CONCEPTS / "pictures").glob("*.svg")} == set(PICTURES)


def test_a_number_is_written_from_its_place(data):
    page = 'a <span data-n="digits.reference.counts d">?</span> b <span data-n="digits.limits.same.true %1">old</span>'
    assert numbers.fill(page, {"digits": {"reference": {"counts": 1700}, "limits": {"same": {"true": 0.114}}}}) == (
        'a <span data-n="digits.reference.counts d">1,700</span> b '
        '<span data-n="digits.limits.same.true %1">11.4\u00a0%</span>'
    )


def test_what_was_not_measured_says_so():
    empty = {"bench": numbers.summary({})}
    page = '<span data-n="bench.small.auroc .3">0.999</span>\n<!-- table: peers -->\n<!-- /table -->'
    filled = numbers.fill(page, empty)
    assert f">{numbers.MISSING}</span>" in filled
    assert "0.999" not in filled
    assert filled.count(numbers.MISSING) > 10


def test_a_place_that_does_not_exist_is_an_error(data):
    with pytest.raises(KeyError):
        numbers.fill('<span data-n="digits.no.such d">1</span>', data)


def test_the_benchmark_is_averaged_over_its_models():
    windows = {"best peer": "DoC", "methods": {"ours": {"all": 0.01}, "DoC": {"all": 0.03}}, "intervals": {}}
    other = {"best peer": "DoC", "methods": {"ours": {"all": 0.03}, "DoC": {"all": 0.05}}, "intervals": {}}
    units = {"all": {"methods": {"ours": {"AUROC": 0.9}, "MSP": {"AUROC": 0.8}}}}
    planted = [{"share": 0.03, "purity": 1.0}, {"share": 0.05, "purity": 0.8}, {"share": 0.01, "purity": 0.2}]
    models = {"p0": {"windows": windows, "units": units}, "n0": {"windows": other}, "b0": {"units": units}, "f0": {}}
    found = numbers.summary({"models": models, "planted": planted})
    assert found["small"]["error"]["ours"] == pytest.approx(0.02)
    assert found["small"]["best_peer"] == pytest.approx(0.04)
    assert found["photos"]["error"]["ours"] is None
    assert (found["small"]["auroc"], found["small"]["auroc_confidence"]) == (0.9, 0.8)
    assert found["planted"] == {"large": pytest.approx(0.9), "small": pytest.approx(0.2)}


def test_the_benchmark_says_what_the_pages_ask_it_for():
    """Its own summary of made-up windows fills every place: a renamed method or quantity would read "not measured"."""
    from benchmarks.estimation._window_peers import BEST_OF
    from benchmarks.estimation._windows import DEFAULT, KINDS, STRESS, WindowTable, summarise

    kinds = np.array([*KINDS, "covariate"])
    truth = np.full(len(kinds), 0.2)
    ours = {name: np.stack([truth - 0.1, truth + 0.1], axis=1) for name in (DEFAULT, STRESS)}
    table = WindowTable(
        truth=truth,
        kinds=kinds,
        sizes=np.full(len(kinds), 500),
        families=np.full(len(kinds), "noise"),
        estimates=dict.fromkeys((*BEST_OF, DEFAULT, STRESS), truth + 0.01),
        intervals=ours,
        alerts=dict.fromkeys(ours, kinds != "clean"),
        base=0.1,
    )
    found = numbers.summary({"models": {"p0": {"windows": summarise(table)}}})["small"]
    assert found["error"] == pytest.approx(dict.fromkeys(found["error"], 0.01))
    assert found["interval"]["ours"] == {
        "coverage": 1.0, "shifted": 1.0, "width": pytest.approx(0.2), "false": 0.0, "detection": 1.0
    }  # fmt: skip


def test_prose_holds_no_measured_percentage_typed_by_hand():
    """Percentages in prose are tolerances and levels of the rules; every other number has a marker."""
    rules = {"3", "5", "20", "90", "95", "99.5", "10", "1"}  # tolerances, levels, radius, examples of reading
    for page in CONCEPTS.glob("*.md"):
        if page.name == "words.md":
            continue
        text = re.sub(r"<span data-n.*?</span>|<!-- table.*?<!-- /table -->", "", page.read_text(), flags=re.DOTALL)
        assert set(re.findall(r"([\d.]+)[ \u00a0]%", text)) <= rules, page.name


def test_the_sentences_about_the_limits_hold(data):
    """docs/concepts/limits.md argues with these: a new measurement that changes them has to change the page."""
    limits = data["digits"]["limits"]
    assert set(limits) == set(SITUATIONS)
    missed = {name for name, one in limits.items() if not one["low"] <= one["true"] <= one["high"]}
    assert missed == {"turned", "concept", "no-errors"}
    assert limits["concept"]["estimate"] == limits["same"]["estimate"]
    assert not limits["concept"]["is_alert"]
    assert limits["turned"]["is_alert"]
    assert not limits["turned"]["is_outside"]
    assert limits["turned"]["confidence_says"] < limits["same"]["confidence_says"]
    for name in ("negative", "blank"):
        assert limits[name]["is_alert"]
        assert limits[name]["is_outside"]
    assert limits["turned"]["stressed"]["badges"] == []
    assert limits["turned"]["stressed"]["high"] < limits["turned"]["true"]
    assert limits["turned"]["stressed"]["badges"] == []
    assert limits["turned"]["stressed"]["high"] < limits["turned"]["true"]
    assert "few errors" in limits["small-reference"]["badges"]
    assert "no errors seen" in limits["no-errors"]["badges"]
    assert "few units in the window" in limits["few-units"]["badges"]


def test_the_sentences_about_the_example_hold(data):
    digits = data["digits"]
    assert digits["reference"]["error_proba_auroc"] > digits["reference"]["confidence_auroc"] + 0.02
    last = digits["noise"][-1]
    assert last["low"] <= last["true"] <= last["high"]
    assert last["confidence_says"] < last["low"]
    assert [one["category"] for one in digits["examples"]] == list(measure.EXAMPLES)
    assert digits["examples"][0]["errors"] == 0
    assert digits["stress"]["weight"] == 0.0
    assert "not verified under shift" in last["badges"]
    assert "not verified under shift" not in last["stressed"]["badges"]
    assert digits["stress"]["weight"] == 0.0
    assert "not verified under shift" in last["badges"]
    assert "not verified under shift" not in last["stressed"]["badges"]


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_the_run_on_digits_still_gives_what_is_stored(data):
    """Another machine differs in the last digits, another version of the method in more: `python -m docs.measure`."""
    now, stored = measure.run(with_stress=False), json.loads(measure.DATA.read_text(encoding="utf-8"))
    assert now["setup"] == stored["setup"]
    assert now["reference"]["accuracy"] == pytest.approx(stored["reference"]["accuracy"], abs=0.02)
    for name, share in stored["reference"]["categories"].items():
        assert now["reference"]["categories"][name] == pytest.approx(share, abs=0.15), name
    for name, one in stored["limits"].items():
        assert now["limits"][name]["true"] == pytest.approx(one["true"], abs=0.06), name
        assert now["limits"][name]["estimate"] == pytest.approx(one["estimate"], abs=0.1), name
    assert len(now["noise"]) == len(stored["noise"])
