"""What leaves the repository: the wheel, and no trace of the machine it was written on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile

import pytest

# Put together from parts, so that this file does not name them either.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]
MACHINE_PATHS = ["/" + part for part in ("work/", "root/", "opt/wheels", "opt/pypi")]


@pytest.fixture(scope="module")
def tracked(root):
    """Text of every tracked file by its path."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        names = [str(path.relative_to(root)) for path in (root / "mld_pipelines").rglob("*.py")]
    else:
        names = [name for name in listed.stdout.split("\0") if name]
    files = {name: root / name for name in names}
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in files.items() if path.is_file()}


@pytest.mark.slow
def test_the_wheel_ships_the_package_and_nothing_else(root, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    for folder in ("mld_pipelines", "assets", "resources", "tests"):
        shutil.copytree(root / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"mld_pipelines"}
    assert "mld_pipelines/py.typed" in names
    assert "mld_pipelines/cli/templates/dagster.yaml" in names


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_package_registry_is_named(tracked, host):
    assert [name for name, text in tracked.items() if host in text] == []


@pytest.mark.parametrize("path", MACHINE_PATHS)
def test_no_path_of_a_developers_machine_is_named(tracked, path):
    assert [name for name, text in tracked.items() if path in text] == []
