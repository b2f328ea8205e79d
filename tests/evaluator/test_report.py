"""The report of a result: complete, escaped, self-contained, readable in both themes and on a phone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import quote

import polars as pl
import pytest

from mld_pipelines.diagnosis import _badges
from mld_pipelines.evaluation import evaluate
from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.evaluator._html import Markup, join, tag
from mld_pipelines.evaluator._report_style import STYLE
from mld_pipelines.evaluator._report_words import BADGE_WORDS
from mld_pipelines.lake import Lake
from mld_pipelines.tables import EVALUATION_CODES
from tests.support.traced import MODEL, write_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.browser import Browser

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>\'"&'


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name != "meta":
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name, f"</{name}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A result with a third dataset and names made to break a page."""
    lake = Lake.open(str(tmp_path_factory.mktemp("report") / "lake"))
    metadata = [json.dumps({EVIL: EVIL if i % 5 else "ok"}) for i in range(900)]
    write_trace(lake, "train", 600, seed=1)
    write_trace(lake, "val", 900, seed=2, noise=1.6, metadata=metadata)
    write_trace(lake, EVIL, 400, seed=3, noise=1.8)
    return Result(evaluate(lake, MODEL, result_name="held-out"))


@pytest.fixture(scope="module")
def source(held_out: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    (path,) = held_out.export(tmp_path_factory.mktemp("page") / "report.html")
    return path.read_text()


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_element_is_closed_where_it_should_be(page: Page) -> None:
    assert page.open == []


def test_it_says_what_the_result_found(page: Page, held_out: Result) -> None:
    issues = held_out.get_issues(dataset="val")
    open_issues = issues.filter(
        pl.col("category").is_in(["hotspot", "critical_hotspot", "recessive_hotspot"]) & (pl.col("errors") > 0)
    )
    worst = open_issues.row(0, named=True)
    assert f"{worst['errors']} of {worst['counts']} wrong" in page.text
    accuracy = held_out.metrics_summary().filter(pl.col("dataset") == "val")["accuracy"][0]
    assert f"{100 * accuracy:.1f} %" in page.text
    code = held_out.get_codes().filter(pl.col("error_code") == worst["error_code"]).row(0, named=True)
    assert all(sentence in page.text for sentence in code["distinctions"])
    assert all(one in page.text for one in code["typical_wrong_input_ids"])


def test_it_says_what_it_was_computed_from(page: Page, held_out: Result) -> None:
    for table, version in held_out.inputs["table_versions"].items():
        assert f"{table} {version}" in page.text
    assert held_out.inputs["fingerprint"] in page.text
    assert "sqrt_p_weight" in page.text


def test_the_peers_and_the_badges_stand_beside_the_estimate(page: Page) -> None:
    for words in ("ATC on tempered confidence", "1 − mean tempered confidence", "mean error rate of the codes"):
        assert page.text.count(words) >= 2
    assert "not verified under shift" in page.text
    assert "No stress pass taught the estimate" in page.text
    assert "datasets the estimator was not fitted on" in page.text


def test_it_has_the_four_kinds_of_pictures(page: Page) -> None:
    titles = [attributes.get("aria-label") or "" for name, attributes in page.tags if name == "svg"]
    for words in ("Issue categories, val", "Map of", "Error probability, val", "Estimated and true error"):
        assert any(title.startswith(words) for title in titles), words
    assert sum(title.startswith("Issue categories") for title in titles) == 3


def test_names_cannot_become_markup(page: Page, source: str) -> None:
    assert "<script" not in source.lower()
    assert {name for name, _ in page.tags} & {"script", "img", "iframe", "object", "link", "form", "base"} == set()
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert EVIL in "".join(page.words)


def test_nothing_is_fetched(page: Page, source: str) -> None:
    addresses = re.findall(r"https?://[^\s\"'<>)]+", source)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert not [key for _, attributes in page.tags for key in attributes if key in {"src", "href", "srcset", "action"}]
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    (policy,) = [a["content"] for n, a in page.tags if n == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)


def test_a_single_dataset_says_that_its_windows_prove_little(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_trace(lake, "val", 300, noise=1.6)
    (path,) = Result(evaluate(lake, MODEL)).export(tmp_path / "report.html")
    assert "windows are drawn from the reference itself" in Page(path.read_text()).text


@pytest.mark.parametrize(
    ("units", "noise", "features", "said"),
    [
        (40, 1.6, True, "Too few labelled units for windows"),
        (200, 0.01, True, "No code outside coverage holds an error"),
        (200, 1.6, False, "no features"),
    ],
)
def test_little_evidence_is_said_in_words(tmp_path: Path, units: int, noise: float, features: bool, said: str) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_trace(lake, "val", units, noise=noise, features=features)
    (path,) = Result(evaluate(lake, MODEL)).export(tmp_path / "report.html")
    page = Page(path.read_text())
    assert said in page.text
    assert page.open == []


def test_epochs_are_named_and_the_pictures_are_of_the_last(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    for epoch in (3, 5):
        write_trace(lake, "val", 200, seed=1, epoch=epoch, noise=1.6, fingerprint=f"{epoch:064x}")
    (path,) = Result(evaluate(lake, MODEL, n_epoch=None)).export(tmp_path / "report.html")
    text = Page(path.read_text()).text
    assert "epochs 3, 5, of which issues, codes and pictures show the last" in text
    assert "val, epoch 3" in text


def test_a_result_older_than_code_descriptions_has_a_report_without_a_map(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_trace(lake, "val", 300, noise=1.6)
    stored = evaluate(lake, MODEL)
    lake.remove(EVALUATION_CODES, where={"evaluation_id": [stored.evaluation_id]})
    (path,) = Result(stored).export(tmp_path / "report.html")
    text = Page(path.read_text()).text
    assert "Map of codes" not in text
    assert "Top issues" in text


def test_text_is_escaped_and_markup_is_kept() -> None:
    assert tag("p", "a<b", tag("b", 1), None, class_='x"y') == '<p class="x&quot;y">a&lt;b<b>1</b></p>'
    assert join(["&", Markup("<br>")]) == "&amp;<br>"
    assert tag("p", "a\x00\ud800b") == "<p>a\ufffd\ufffdb</p>"


def _luminance(colour: str) -> float:
    full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
    channels = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_all_text_colours_can_be_read_in_both_themes(theme: int) -> None:
    """WCAG 2.2 AA: 4.5 : 1 for text."""
    block = re.findall(r":root\{([^}]*)\}", STYLE)[theme]
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block))
    for name in set(colours) - {"page", "card", "line"}:
        for ground in ("page", "card"):
            light, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # the base install has no client of browsers; what needs one there is `slow`
    from tests.support.browser import missing_browser, open_browser

    if (reason := missing_browser()) is not None:
        pytest.skip(reason)
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_whole_without_asking_anyone(
    browser: Browser, held_out: Result, tmp_path: Path, width: int, scheme: str
) -> None:
    (path,) = held_out.export(tmp_path / "report.html")
    browser.emulate(width=width, height=900, scheme=scheme)
    browser.open("file://" + quote(str(path)))
    assert "Top issues" in browser.text()
    assert browser.script("return document.documentElement.scrollWidth") <= width
    styled = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert styled == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 19, 24)")
    drawn = browser.script(
        "return [...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect())"
        ".filter(r => r.width > 0).map(r => [r.left, r.right])"
    )
    assert len(drawn) >= 6
    assert all(0 <= left <= right <= width for left, right in drawn)
    assert browser.hosts() == set()


def test_the_report_is_on_the_result_that_the_evaluator_returns(
    evaluator: Evaluator, result: Result, tmp_path: Path
) -> None:
    (path,) = evaluator.get_result(result.result_name).export(tmp_path, "html")
    assert path.name == "report.html"


def test_every_badge_is_explained() -> None:
    assert {getattr(_badges, name) for name in _badges.__all__} <= set(BADGE_WORDS)
