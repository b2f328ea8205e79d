"""P8: how soon `request_evaluation` answers in a warm process, against a launched run that does nothing."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import median, quantile, seconds_of
from mld_pipelines import settings
from mld_pipelines.cli import running_platform

if TYPE_CHECKING:
    from mld_pipelines.cli import Platform

PEERS = ("dagster", "torch", "scikit-learn")
STARTS_DAEMONS = True
_LOCATION = "noop"
_DEFINITIONS = '''"""A code location with one job that does nothing."""

import dagster as dg


@dg.op
def nothing():
    """Do nothing."""


@dg.job(executor_def=dg.in_process_executor)
def noop():
    """Run it."""
    nothing()


defs = dg.Definitions(jobs=[noop])
'''
_WORKSPACE = f"""load_from:
  - python_file:
      relative_path: noop_definitions.py
      location_name: {_LOCATION}
"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
_STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime endTime } } }"""
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 180.0


def run(*, quick: bool, full: bool) -> Report:
    """Evaluate the demo's traces in process, then launch runs through a webserver and a daemon."""
    del full
    logging.disable(logging.WARNING)
    units, spent = _evaluations(2 if quick else 9)
    launched, inside = _launches(1 if quick else 5, warm=not quick)
    answer, launch = median(spent), median(launched)
    report = Report(
        f"An evaluation of {units:,} traced digits (the demo's lake)",
        ("way", "p50", "slowest", "dearer than the evaluation"),
    )
    report.add("`request_evaluation`, warm process", seconds_text(answer), seconds_text(max(spent)), ratio_text(1.0))
    report.add(
        "`launchRun` of a job that does nothing → SUCCESS",
        seconds_text(launch), seconds_text(quantile(launched, 1.0)), ratio_text(launch / answer),
    )  # fmt: skip
    work, gain = median(inside), launch / answer
    report.add("of that, the run itself", seconds_text(work), seconds_text(max(inside)), ratio_text(work / answer))
    report.at_least("≥ 12 × sooner than a launched no-op run", gain, 12.0, ratio_text(gain))
    report.notes.append(
        "The launched job lives in a code location of its own that imports Dagster alone, on the instance settings of "
        "`mld init` (queue and daemon included). Every evaluation makes and stores a new result."
    )
    return report


def _evaluations(repeats: int) -> tuple[int, list[float]]:
    """Trace the demo's digits into the state directory's lake; return the units and the seconds of evaluations."""
    from examples.demo import loop
    from examples.demo.digits import load_digits, train
    from mld_pipelines.evaluator import Evaluator

    train_data, val_data, _ = load_digits()
    loop.trace(train(train_data), {"train": train_data, "val": val_data})
    evaluator = Evaluator(loop.MODEL, loop.VERSION)
    evaluator.request_evaluation()  # the first one imports scikit-learn and promotes the traces
    spent = [seconds_of(evaluator.request_evaluation) for _ in range(repeats)]
    return len(train_data.labels) + len(val_data.labels), spent


def _launches(repeats: int, *, warm: bool) -> tuple[list[float], list[float]]:
    """Return the seconds from launch to success, and those between start and end of the runs."""
    home = Path(settings.state_directory()) / "platform"
    home.mkdir(parents=True)
    (home / "noop_definitions.py").write_text(_DEFINITIONS)
    (home / "workspace.yaml").write_text(_WORKSPACE)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    with running_platform(home / "workspace.yaml", home=home, port=0) as platform:
        if warm:
            _launch(platform)  # the first one meets cold databases
        pairs = [_launch(platform) for _ in range(repeats)]
    return [whole for whole, _ in pairs], [inside for _, inside in pairs]


def _launch(platform: Platform) -> tuple[float, float]:
    selector = {"repositoryLocationName": _LOCATION, "repositoryName": "__repository__", "pipelineName": "noop"}
    start = time.perf_counter()
    parameters = {"selector": selector, "runConfigData": {}, "mode": "default"}
    answer = platform.graphql(_LAUNCH, {"params": parameters})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(f"the job was not launched: {answer}")
    while time.perf_counter() - start < _PATIENCE_SECONDS:
        found = platform.graphql(_STATUS, {"id": answer["run"]["runId"]})["runOrError"]
        if found["status"] in ("FAILURE", "CANCELED"):
            raise RuntimeError(f"the run ended with {found['status']}")
        if found["status"] == "SUCCESS":
            return time.perf_counter() - start, found["endTime"] - found["startTime"]
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the run did not end within {_PATIENCE_SECONDS:.0f} s")
