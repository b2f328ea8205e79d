"""What the code and the pages cite exists: every `docs/….md#anchor`, and no page outside the repository."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("mld_pipelines", "assets", "resources", "tests", "benchmarks", "examples", "docs")
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md", ".toml"} and path != Path(__file__).resolve()
        if not path.name.startswith("test_skipping_")  # another test's, gone in a moment
    ),
]
NUMBERED = [ROOT / "docs" / name for name in ("method.md", "storage.md")]

_CITED = re.compile(r"\b(docs/(?:[a-z_]+/)*[a-z_]+\.md)(?:#([a-z0-9-]+))?")
_LINK = re.compile(r"\]\(([^)\s]*?)#([^)\s]+)\)")
_BARE = re.compile(r"(?<![\w/.#-])([a-z_]+\.md)\b")
_BY_NUMBER = re.compile(r"[a-z_]+\.md`? (?:§ ?|P)?\d")
WRITTEN = {"report.md"}  # by `python -m benchmarks.estimation`, into the build folder
_FENCE = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Explicit `<a id>` anchors, and the slugs that renderers make of headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return frozenset(slugs | set(re.findall(r'<a id="([^"]+)">', text)))


def missing(target: Path, anchor: str | None) -> bool:
    return not target.is_file() or (anchor is not None and anchor not in anchors(target))


def test_every_cited_section_exists():
    cited = [(file, *found) for file in FILES for found in _CITED.findall(file.read_text(encoding="utf-8"))]
    assert len(cited) > 50, "the citations were not found"
    assert [
        f"{file.relative_to(ROOT)}: {page}#{anchor}"
        for file, page, anchor in cited
        if missing(ROOT / page, anchor or None)
    ] == []


def test_every_linked_section_exists():
    pages = [file for file in FILES if file.suffix == ".md"]
    linked = [(page, *found) for page in pages for found in _LINK.findall(page.read_text(encoding="utf-8"))]
    assert [
        f"{page.relative_to(ROOT)}: {target}#{anchor}"
        for page, target, anchor in linked
        if "://" not in target and missing((page.parent / target).resolve() if target else page, anchor)
    ] == []


def test_every_page_that_is_named_is_in_the_repository():
    known = WRITTEN | {page.name for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))}
    named = [(file, name) for file in FILES for name in _BARE.findall(file.read_text(encoding="utf-8"))]
    assert [f"{file.relative_to(ROOT)}: {name}" for file, name in named if name not in known] == []


def test_sections_are_cited_by_anchor_and_not_by_number():
    cited = [(file, text) for file in FILES for text in _BY_NUMBER.findall(file.read_text(encoding="utf-8"))]
    assert [f"{file.relative_to(ROOT)}: {text}" for file, text in cited] == []


def test_an_anchor_names_one_section():
    for numbered in NUMBERED:
        ids = re.findall(r'<a id="([^"]+)">', numbered.read_text(encoding="utf-8"))
        assert sorted(ids) == sorted(set(ids))


def test_sections_are_numbered_without_a_gap():
    for numbered in NUMBERED:
        text = _FENCE.sub("", numbered.read_text(encoding="utf-8"))
        found = re.findall(r"^##(#?) (\d+)\.(\d*)", text, re.MULTILINE)
        section = part = 0
        for depth, first, second in found:
            section, part = (section, part + 1) if depth else (section + 1, 0)
            assert (int(first), int(second or 0)) == (section, part)


def test_a_citation_that_leads_nowhere_is_noticed():
    assert missing(ROOT / "docs" / "method.md", "no-such-section")
    assert missing(ROOT / "docs" / "no_such_page.md", None)
    assert not missing(ROOT / "docs" / "method.md", "categories")
    assert not missing(ROOT / "docs" / "concepts" / "words.md", "unit-input-dataset")
    assert _CITED.findall("docs/concepts/words.md#error-code")
    assert _BY_NUMBER.search("Which result is current (`rules.md` 1.7)")
    assert _BARE.findall("measured, estimation.md") == ["estimation.md"]
