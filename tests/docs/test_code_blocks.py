"""Every Python and bash block of the documentation runs as it stands, page by page, in an empty folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"python", "bash", "console", "text", "yaml", "toml", "json"}


@pytest.fixture
def blocks_of(request):
    return request.config.mld_blocks_of


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a page about an example is followed in a checkout
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # what a page exports must not outlive it
    monkeypatch.setenv("MLD_API_ENDPOINT", "")
    return folder


def run_bash(block, namespace):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.source], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{block.page}:{block.line}\n{block.source}\n{done.stdout}\n{done.stderr}"


def run_python(block, namespace):
    # as many newlines as lines before the block, so that a traceback names the page's own line
    code = compile("\n" * (block.line - 1) + block.source, str(block.page), "exec")
    exec(code, namespace)


@pytest.mark.timeout(600)
def test_the_code_of_a_page_runs(runnable_page, blocks_of, empty_folder):
    namespace = {"__name__": "__main__"}
    run = {"python": run_python, "bash": run_bash}
    for block in blocks_of(runnable_page):
        if block.language in run:
            run[block.language](block, namespace)


def test_every_block_names_its_language(page, blocks_of):
    assert [(block.line, block.language) for block in blocks_of(page) if block.language not in LANGUAGES] == []


def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (page.parent / link).exists()] == []
