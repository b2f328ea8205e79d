"""The Dagster UI in a real browser: the asset graph, materialisations with pictures, checks and plots."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

GROUPS = ("estimators", "evaluation", "landing", "maintenance", "monitoring", "traces")

#: Anchors of the UI that open metadata too long to stand in its table.
SHOW = "[...document.querySelectorAll('a')].filter(e => e.innerText.trim() === arguments[0])"
GLANCES = """return [...document.images].filter(i => i.src.startsWith('data:image/svg+xml,') && i.complete).map(
    i => ({width: i.naturalWidth, alt: i.alt}))"""
PICTURES = """return [...document.images].filter(i => i.src.startsWith('data:image/svg+xml;base64')).map(
    i => ({loaded: i.complete, width: i.naturalWidth, height: i.naturalHeight, svg: atob(i.src.split(',')[1])}))"""

CHECKS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetChecksOrError {
  ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } } }"""


@pytest.fixture(scope="session")
def ui(browser, platform):
    """Open a page of the UI and wait until it shows some texts."""

    def see(path, *texts, pattern=""):
        return browser.see(*texts, url=platform.url + path, pattern=pattern)

    return see


def picture_of(browser):
    """The one picture of the newest materialisation, inline or behind the link that Dagster makes of it."""
    browser.wait(
        lambda: browser.script(PICTURES) or browser.script(f"return {SHOW}.length", "[Show Markdown]") > 1, "a picture"
    )
    if not browser.script(PICTURES):
        browser.script(f"{SHOW}.at(-1).click()", "[Show Markdown]")  # the first one is the preview of the rows
    return browser.wait(lambda: [one for one in browser.script(PICTURES) if one["width"]], "a picture that loads")[0]


def test_the_asset_graph_shows_every_group_with_materialised_assets(ui, browser):
    ui("/asset-groups/", *GROUPS)
    browser.wait(lambda: "fetching statuses" not in browser.text(), "the state of every group")
    browser.shoot("asset-graph")


@pytest.fixture
def tall(browser):
    """A window that a whole group fits into: the graph draws no asset outside of it."""
    browser.emulate(width=1600, height=3000)
    yield
    browser.emulate(width=1600, height=1200)


@pytest.mark.usefixtures("tall")
@pytest.mark.parametrize("group", ["traces", "evaluation", "estimators", "monitoring"])
def test_the_graph_of_a_group_shows_its_assets_as_materialised(ui, browser, platform, group):
    query = "{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 1) { runId } } }"
    answer = platform.graphql(query)
    nodes = [node for node in answer["assetNodes"] if node["groupName"] == group]
    assert nodes
    bare = [node["assetKey"]["path"] for node in nodes if not node["assetMaterializations"]]
    assert bare in ([], [["traces", "stress"]])  # of registered models; the demo holds its model itself
    names = [node["assetKey"]["path"][-1] for node in nodes]
    ui(f"/locations/mld_pipelines/asset-groups/{group}/lineage", *names, "Latest event")
    browser.wait(lambda: "Loading" not in browser.text(), "the state of every asset")
    shown = browser.text()
    browser.shoot(f"group-{group}")
    assert len(re.findall(r"Latest event\s+(?!Asset checks)[^–\s]", shown)) == len(nodes) - len(bare), shown
    assert shown.lower().count("never materialized") <= len(bare), shown


def test_the_page_of_an_asset_says_what_it_is(ui, browser):
    parts = ("A finished result", "Delta Lake", "Polars", "mld-pipelines", "evaluation")
    columns = ("result_name", "evaluation_id", "fingerprints", "codebook_ids")
    types = ("Name the attempt wants", "non-nullable", "List(Int64)")
    checks = r"Latest check results\s+\d+"
    ui("/assets/evaluation/results", "Description", "Columns", *parts, *columns, *types, pattern=checks)
    browser.shoot("asset-page")


@pytest.mark.parametrize(
    ("asset", "says"),
    [
        ("traces/inputs", "Traced inputs"),
        ("evaluation/units", "Error probability"),
        ("evaluation/issues", "Error rate by code"),
        ("evaluation/codes", "Map of codes"),
        ("monitoring/codes", "Codes of 20"),
    ],
)
def test_a_materialisation_shows_its_picture_and_numbers(ui, browser, asset, says):
    names = ("Metadata", "picture", "dagster/column_schema", "dagster/uri", "materialized in run")
    shown = ui(f"/assets/{asset}?view=events", *names, pattern=r"delta_version\s+\d+")
    assert re.search(r"dagster/partition_row_count\s+[1-9]", shown), shown
    glance = browser.wait(lambda: browser.script(GLANCES), "the small picture that stands in place")
    assert [one for one in glance if one["width"] > 0], glance
    picture = picture_of(browser)
    browser.shoot("picture-" + asset.replace("/", "-"))
    assert picture["width"] > 50
    assert says in picture["svg"]
    assert "NaN" not in picture["svg"]


def test_the_column_schema_of_a_materialisation_opens(ui, browser):
    ui("/assets/evaluation/units?view=events", "[Show Table Schema]")
    browser.script(f"{SHOW}[0].click()", "[Show Table Schema]")
    browser.see("error_proba", "error_code", "input_id", "Float64")
    browser.shoot("column-schema")


def test_the_checks_tab_shows_passed_checks(ui, browser, platform):
    path = ["evaluation", "units"]

    def ended():
        node = platform.graphql(CHECKS, {"key": {"path": path}})["assetNodeOrError"]
        found = node["assetChecksOrError"]["checks"]
        states = {one["name"]: (one["executionForLatestMaterialization"] or {}).get("status") for one in found}
        return states if "IN_PROGRESS" not in states.values() else None

    states = browser.wait(ended, "the checks that run")
    assert set(states.values()) == {"SUCCEEDED"}, f"checks of evaluation/units that did not pass: {states}"
    ui(f"/assets/{'/'.join(path)}?view=checks", "Evaluation result", "Passed", f"Checks ({len(states)})", *states)
    browser.shoot("checks")


def test_numeric_metadata_is_plotted(ui, browser):
    ui("/assets/evaluation/metrics", "Metadata", "Plots", "accuracy")
    browser.click("button", text="Plots")
    browser.wait(lambda: browser.script("return document.querySelectorAll('canvas').length") >= 4, "plots")
    browser.see("accuracy", "auroc", "error_proba_auroc", "hotspot_ratio")
    browser.shoot("plots")


@pytest.mark.parametrize("table", ["inferences", "models"])
def test_the_page_of_a_landing_table_shows_what_a_sensor_reported(ui, browser, table):
    ui(f"/assets/landing/{table}?view=events", "new_rows", "delta_version", pattern=r"new_rows\s+[1-9]\d*")
    browser.shoot(f"landing-{table}")


def test_sensors_and_schedules_are_on(ui, browser, platform):
    names = ["automation", "new_traces", "evaluation_results", "new_logs", "reevaluate", "rescore", "run_failure"]
    ui("/automation", *names, "nightly_maintenance")
    browser.shoot("automation")
    states = platform.graphql(
        """{ repositoriesOrError { ... on RepositoryConnection { nodes {
             sensors { name sensorState { status } } schedules { name scheduleState { status } } } } } }"""
    )["repositoriesOrError"]["nodes"][0]
    found = {one["name"]: one["sensorState"]["status"] for one in states["sensors"]}
    found |= {one["name"]: one["scheduleState"]["status"] for one in states["schedules"]}
    assert {name: status for name, status in found.items() if status != "RUNNING"} == {}


def test_the_trace_job_can_be_launched_from_its_page(ui, browser):
    """The Launchpad offers the job's configuration and asks for the two names; `test_trace_job.py` launches it."""
    asks = "Missing required config entries ['dataset', 'model']"
    ui("/locations/mld_pipelines/jobs/trace_model/playground", "Launch Run", "batch_size", asks)
    browser.shoot("launchpad")


def test_the_pages_ask_nothing_of_another_machine(ui, browser):
    ui("/runs", "evaluation", "monitoring")
    assert browser.hosts() == {"127.0.0.1"}
