"""Imports go one way."""

from __future__ import annotations

#: The single source of the order: a room imports rooms of later rows, never of its own row or an earlier one.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("server",),
    ("pages",),
    ("training", "monitoring", "filtering", "evaluator"),
    ("tracing",),
    ("rollups",),
    ("evaluation",),
    ("capture",),
    ("adapters",),
    ("datasets",),
    ("stress",),
    ("compute",),
    ("figures",),
    ("windows",),
    ("diagnosis",),
    ("metrics",),
    ("geometry",),
    ("quality",),
    ("lake",),
    ("tables",),
    ("records",),
    ("settings",),
    ("exceptions",),
    ("",),
)
LEVEL = {room: level for level, row in enumerate(ROOMS) for room in row}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}


def room_of(dotted: str) -> str:
    """Room of an imported name; a name of the package itself (`mld_pipelines.__version__`) is the room ``""``."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else ""


def test_every_room_has_a_place_in_the_order(sdk):
    assert {module.room for module in sdk} - set(LEVEL) == set()


def test_rooms_import_downwards_only(sdk):
    upwards = [
        f"{module.path.name}:{line} ({module.room}) imports {target}"
        for module in sdk
        for line, target in module.imports
        if target.split(".")[0] == "mld_pipelines"
        and room_of(target) != module.room
        and LEVEL[room_of(target)] <= LEVEL[module.room]
    ]
    assert upwards == []


def test_private_modules_are_imported_by_their_own_room_only(sdk):
    peeking = [
        f"{module.name}:{line} imports {target}"
        for module in sdk
        for line, target in module.imports
        if target.startswith("mld_pipelines.")
        and room_of(target) != module.room
        and any(part.startswith("_") and not part.startswith("__") for part in target.split(".")[1:])
    ]
    assert peeking == []


def test_the_package_never_imports_the_platform(sdk):
    platform = {"dagster", "assets", "resources", "dagster_webserver", "dagster_shared"}
    found = [f"{m.name}:{line} {target}" for m in sdk for line, target in m.imports if target.split(".")[0] in platform]
    assert found == []


def test_resources_do_not_import_assets(shipped):
    found = [
        f"{module.name}:{line} {target}"
        for module in shipped
        if module.name.split(".")[0] == "resources"
        for line, target in module.imports
        if target.split(".")[0] == "assets"
    ]
    assert found == []


def test_nothing_shipped_imports_tests_or_benchmarks(shipped):
    outside = {"tests", "benchmarks", "pytest", "hypothesis"}
    found = [f"{m.name}:{line} {t}" for m in shipped for line, t in m.imports if t.split(".")[0] in outside]
    assert found == []


def test_modules_are_named_after_what_they_hold(shipped):
    found = [m.name for m in shipped if {part.strip("_") for part in m.name.split(".")} & BANNED_NAMES]
    assert found == []
