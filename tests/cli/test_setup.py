"""`mld init`, `mld doctor`, `mld demo`."""

from __future__ import annotations

import pytest

from mld_pipelines import settings
from mld_pipelines.cli._exits import Exit


def test_init_makes_lake_spool_and_dagster(mld):
    home = settings.state_directory()
    done = mld("init", "--json")
    assert done.exit == 0
    assert done.document["home"] == str(home)
    assert all((home / name).is_dir() for name in ("lake", "spool", "dagster"))
    assert "telemetry" in (home / "dagster" / "dagster.yaml").read_text()


def test_a_second_init_changes_nothing(mld):
    mld("init")
    assert mld("init", "--json").document["made"] == []


def test_init_keeps_a_configuration_that_the_user_edited(mld):
    mld("init")
    configuration = settings.state_directory() / "dagster" / "dagster.yaml"
    configuration.write_text("telemetry: {enabled: false}\n")
    done = mld("init", "--json")
    assert done.document["kept"] == [str(configuration)]
    assert configuration.read_text() == "telemetry: {enabled: false}\n"


def test_init_says_so_when_the_place_cannot_be_written(mld, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLD_HOME", str(tmp_path / "file" / "below"))
    done = mld("init")
    assert done.exit == Exit.FAILED
    assert "MLD_HOME" in done.stderr


def test_doctor_finds_a_sound_installation_sound(mld):
    done = mld("doctor", "--json")
    assert done.exit == 0
    assert done.document["ok"]
    assert {"python", "platform", "state directory", "disk", "clock", "lake"} <= {
        check["check"] for check in done.document["checks"]
    }


def test_doctor_changes_nothing(mld):
    mld("doctor")
    assert not settings.state_directory().exists()


def test_doctor_names_an_endpoint_it_cannot_use(mld, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", "ftp://somewhere")
    done = mld("doctor", "--json")
    assert done.exit == Exit.CHECK_FAILED
    (lake,) = [check for check in done.document["checks"] if check["check"] == "lake"]
    assert lake["status"] == "failed"
    assert "ftp" in lake["detail"]


def test_doctor_names_a_webserver_of_another_number(mld, monkeypatch):
    versions = {"dagster": "1.13.28", "dagster-webserver": "1.13.27"}
    monkeypatch.setattr("mld_pipelines.cli._doctor._version", lambda name: versions.get(name, "1"))
    done = mld("doctor", "--json")
    assert done.exit == Exit.CHECK_FAILED
    (found,) = [check for check in done.document["checks"] if check["check"] == "platform"]
    assert "1.13.28" in found["detail"]


def test_doctor_asks_for_rays_token(mld, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    (found,) = [c for c in mld("doctor", "--json").document["checks"] if c["check"] == "ray"]
    assert found["status"] == "warning"


@pytest.mark.feature("A1")
def test_doctor_looks_at_the_lake_of_the_endpoint(mld, monkeypatch, tmp_path):
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "elsewhere"))
    (found,) = [c for c in mld("doctor", "--json").document["checks"] if c["check"] == "lake"]
    assert str(tmp_path / "elsewhere") in found["detail"]


def test_demo_says_where_it_runs(mld, tmp_path):
    done = mld("demo", "--checkout", str(tmp_path))
    assert done.exit == Exit.NOT_SET_UP
    assert "checkout" in done.stderr


@pytest.mark.parametrize("status", [0, 1])
def test_demo_ends_as_the_demo_ends(mld, tmp_path, status):
    folder = tmp_path / "examples" / "demo"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text(f"import sys; sys.exit({status} if '--json' in sys.argv else 9)")
    assert mld("demo", "--checkout", str(tmp_path), "--json").exit == status


def test_demo_runs_the_part_that_was_asked_for(mld, tmp_path):
    folder = tmp_path / "examples" / "demo"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text("import sys; sys.exit(sys.argv[1:] != ['--part', 'drive'])")
    assert mld("demo", "--checkout", str(tmp_path), "--part", "drive").exit == 0
    assert mld("demo", "--checkout", str(tmp_path)).exit == 1
