"""The site that `make docs` builds: strict, complete, and sufficient unto itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support.browser import LOOPBACK, missing_browser, open_browser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.timeout(300)

PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
#: What a browser asks for without a click.
_LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']+["']""")
#: Elements of a selector, also inside the shadow roots where the theme keeps its search.
_DEEP = """const all = (selector, root = document) => [...root.querySelectorAll('*')].flatMap(
    e => [...(e.matches(selector) ? [e] : []), ...(e.shadowRoot ? all(selector, e.shadowRoot) : [])]);"""


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def copied(folder: Path) -> Path:
    """The sources of the site in a folder of their own: a build writes beside its configuration."""
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = copied(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, f"`make docs` fails:\n{done.stdout}\n{done.stderr}"
    return folder / "site"


def entries(nav):
    """Pages of a navigation tree."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from entries([below] if isinstance(below, str) else below)


def test_the_navigation_holds_every_page_once():
    nav = list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(nav) == PAGES, "list every page of docs/ once under `nav` in mkdocs.yml"


def test_every_page_is_built(site):
    assert [page for page in PAGES if not (site / page).with_suffix(".html").is_file()] == []


def test_sources_of_generated_pages_are_not_published(site):
    assert [path.name for path in site.rglob("*.py")] == []
    assert [path.name for path in site.rglob("*.json") if path.name != "search.json"] == []


def test_no_page_loads_anything_from_elsewhere(site):
    assert {page.name: found for page in site.rglob("*.html") if (found := _LOADED.findall(page.read_text()))} == {}
    assert _LOADED.findall('<script defer src="https://elsewhere.example/x.js"></script>'), "the pattern sees nothing"


def test_every_picture_is_there_and_described(site):
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<img\b[^>]*>", page.read_text(encoding="utf-8")):
            source, alt = re.search(r'src="([^"]+)"', tag)[1], re.search(r'alt="([^"]*)"', tag)
            assert source.startswith("data:") or (page.parent / source).is_file(), f"{page.name}: {source}"
            assert alt is not None and alt[1].strip(), f"{page.name}: {source} has no description"


@pytest.mark.parametrize("link", ["no-such-page.md", "quickstart.md#no-such-section", "../README.md"])
def test_a_broken_link_fails_the_build(tmp_path, link):
    (tmp_path / "docs").mkdir()
    shutil.copytree(DOCS / "assets", tmp_path / "docs" / "assets")
    shutil.copy(DOCS / "quickstart.md", tmp_path / "docs")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(settings.split("\nnav:")[0], encoding="utf-8")
    (tmp_path / "docs" / "quickstart.md").write_text("# Start\n", encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text(f"# Broken\n\n[gone]({link})\n", encoding="utf-8")
    assert build(tmp_path).returncode != 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if (reason := missing_browser()) is not None:
        pytest.skip(reason)
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(site):
    """The site behind a web server of its own; the theme remembers a reader's colour scheme per address."""
    with ThreadingHTTPServer((LOOPBACK, 0), partial(_Silent, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()


WIDE, PHONE = (1400, 1000), (390, 844)
OVERFLOW = "return document.documentElement.scrollWidth - window.innerWidth"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize(
    ("size", "scheme", "pages"),
    [(WIDE, "light", ["index.md", "concepts/codes.md", "concepts/limits.md", "method.md"]), (PHONE, "dark", PAGES)],
    ids=["wide", "phone"],
)
def test_pages_fit_the_screen_and_load_nothing_from_elsewhere(address, browser, size, scheme, pages):
    browser.emulate(width=size[0], height=size[1], scheme=scheme)
    for page in pages:
        browser.open(f"{address}/{page.removesuffix('.md')}.html")
        assert browser.script(OVERFLOW) <= 0, f"{page} is wider than a screen of {size[0]} pixels"
        broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert browser.script(broken) == []
    red = int(re.findall(r"\d+", browser.script(BACKGROUND))[0])
    assert (red < 100) == (scheme == "dark"), "the page follows the reader's colour scheme"
    assert browser.hosts() <= {LOOPBACK}


@pytest.mark.parametrize("door", ["web server", "file system"])
def test_the_search_finds_a_page_without_a_network(site, address, browser, door):
    base = address if door == "web server" else site.as_uri()
    browser.emulate(width=WIDE[0], height=WIDE[1])
    browser.open(f"{base}/index.html")
    browser.click(".md-search__button")
    browser.wait(lambda: browser.script(f"{_DEEP} return all('input[role=combobox]').length"), "the search field")
    browser.write("aleatoric")
    found = f"{_DEEP} return all('a').map(a => a.href).filter(a => a.includes('h=aleatoric'))"
    links = browser.wait(lambda: browser.script(found), "results", seconds=30)
    assert any("method.html" in link for link in links)
    assert browser.hosts() <= {LOOPBACK}
