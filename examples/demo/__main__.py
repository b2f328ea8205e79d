"""`python -m examples.demo`: run the whole loop in `.mld/demo` (or `MLD_DEMO_HOME`) and print what it found.

`--part digits` and `--part drive` leave the other part out; `--json` prints the summary as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

CHECKOUT = Path(__file__).resolve().parents[2]
SENSOR_INTERVAL = "2"
SECONDS_PER_WAIT = 240.0
"""Generous: on two idle cores each wait takes 10 to 40 s; a loaded machine gets four minutes before it is an error."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from examples.demo.drive import Driven
    from examples.demo.loop import Served
    from mld_pipelines.cli import Platform
    from mld_pipelines.evaluator import Result
    from mld_pipelines.lake import Lake
    from mld_pipelines.tracing import TraceRunReport

    Step = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--part", choices=("all", "digits", "drive"), default="all", help="what to run")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    home = Path(os.environ.get("MLD_DEMO_HOME") or CHECKOUT / ".mld" / "demo").expanduser().absolute()
    os.environ["MLD_HOME"] = str(home)
    os.environ.pop("MLD_API_ENDPOINT", None)
    os.environ["MLD_SENSOR_INTERVAL"] = SENSOR_INTERVAL
    from examples.demo import summary
    from mld_pipelines.exceptions import MldError
    from mld_pipelines.lake import Lake

    try:
        with steps() as step:
            served, driven = run(step, chosen.part)
    except MldError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    lake = Lake.open()
    if chosen.json:
        print(json.dumps(summary.document(lake, served, driven), default=str))
    else:
        summary.print_summary(lake, served, driven)
        print(f"\n{time.monotonic() - started:.0f} s in all.")
    return 0


def run(step: Step, part: str = "all") -> tuple[Served | None, Driven | None]:
    """Run every step beside a real Dagster webserver and daemon.

    The street scenes are traced before the daemon starts: it then evaluates the detector while digits are trained.
    """
    from examples.demo import loop
    from mld_pipelines.cli import running_platform
    from mld_pipelines.lake import Lake

    home = Path(os.environ["MLD_HOME"])
    served: Served | None = None
    driven: Driven | None = None
    traced = trace_scenes(step) if part != "digits" else []
    step("starting Dagster (webserver and daemon, sensors tick every 2 s)")
    with running_platform(CHECKOUT / "workspace.yaml", home=home, port=0, progress=step) as platform:
        step(f"Dagster UI at {platform.url}")
        lake = Lake.open()
        if part != "drive":
            served = serve_digits(step, lake, platform)
        if traced:
            driven = watch_drive(step, lake, platform, traced)
        step("waiting for the last runs to end")
        wait(loop, "quiet", Quiet(platform), platform.require_alive)
    return served, driven


def serve_digits(step: Step, lake: Lake, platform: Platform) -> Served:
    """Run the classification part: trace, evaluate, log a fortnight, monitor, label, re-evaluate."""
    from examples.demo import loop
    from examples.demo.digits import load_digits, train

    step("training a small network on 8×8 digits")
    train_data, val_data, pool = load_digits()
    model = train(train_data)
    step("tracing training and validation images")
    receipt = loop.trace(model, {"train": train_data, "val": val_data})
    step("evaluating: metrics, error codes, categories, error estimator")
    first = loop.evaluate()
    step("serving a fortnight of requests through the logger")
    truth, stats = loop.log_fortnight(model, pool, advance=lambda at: step(f"serving requests of {at:%d %b}"))
    step("waiting for the sensors to monitor the fortnight")
    wait(loop, "windows of every day", lambda: loop.monitored(lake, first.result_name), platform.require_alive)
    step("labels arrive for every eighth request")
    labels = loop.label_some(truth)
    step("waiting for the re-evaluation that the labels trigger")
    wait(loop, "a re-evaluation", lambda: len(feedback_results(lake)) > 0, platform.require_alive)
    second = feedback_results(lake)[-1]
    step(f"{second.result_name} is current; waiting for the last week to be scored again")
    wait(loop, "new windows", lambda: loop.monitored(lake, second.result_name, days=7), platform.require_alive)
    return loop.Served((first, second), truth, {"tracer": receipt, "logger": stats, "labels": labels})


def trace_scenes(step: Step) -> list[TraceRunReport]:
    """Begin the 3D part: trace street scenes with the shipped detector, and stress it."""
    from examples.demo import drive
    from mld_pipelines.lake import Lake

    lake = Lake.open()
    step("tracing street scenes with the pillar detector on local Ray actors")
    traced = drive.trace(lake)
    step("running the detector on corrupted copies of some scenes, to verify its estimates under shift")
    drive.stress(lake)
    return traced


def watch_drive(step: Step, lake: Lake, platform: Platform, traced: Sequence[TraceRunReport]) -> Driven:
    """Go on with the 3D part: wait for the platform's evaluation, log a week of driving, monitor it."""
    from examples.demo import drive, loop
    from examples.demo.week import shots
    from examples.drive.model import drive_model

    step("building the streets of a week")
    frames = list(shots())
    step("waiting for the platform to evaluate the detector by itself")
    wait(loop, "a result of the detector", lambda: drive.first_result() is not None, platform.require_alive)
    result = drive.first_result()
    if result is None:  # it was there a moment ago, and results stay
        raise RuntimeError(f"the result of {drive.MODEL}@{drive.VERSION} is gone")
    step(f"{result.result_name} is current; driving for a week with the logger")
    week, stats = drive.serve_week(
        drive_model(), frames, result.result_name, advance=lambda at: step(f"driving on {at:%d %b}")
    )
    step("waiting for the sensors to monitor the week")
    wait(loop, "windows of every day", lambda: drive.monitored(lake, result.result_name), platform.require_alive)
    return drive.Driven(result, week, tuple(traced), stats)


def wait(loop: Any, what: str, condition: Callable[[], bool], check: Callable[[], None]) -> None:
    """Wait for a condition, failing early when the platform died."""
    loop.wait_until(what, condition, seconds=SECONDS_PER_WAIT, check=check)


class Quiet:
    """Asks whether no run was queued or running for the last four ticks of the sensors."""

    _QUERY = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}, limit: 1) {
      ... on Runs { results { id } } } }"""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._since = time.monotonic()

    def __call__(self) -> bool:
        """Return whether it is quiet."""
        if self._platform.graphql(self._QUERY)["runsOrError"]["results"]:
            self._since = time.monotonic()
        return time.monotonic() - self._since > 4 * int(SENSOR_INTERVAL)


def feedback_results(lake: Lake) -> list[Result]:
    """Return the results that feedback triggered, oldest first."""
    from examples.demo.loop import MODEL, VERSION
    from mld_pipelines.evaluation import list_results, load_result
    from mld_pipelines.evaluator import Result

    rows = list_results(lake, f"{MODEL}@{VERSION}").filter(trigger="feedback")
    return [Result(load_result(lake, name)) for name in rows["result_name"]]


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Show the current step: a spinner on a terminal, one line per step elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    started = time.monotonic()
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda message: status.update(f"{time.monotonic() - started:4.0f} s  {message}")
        return
    seen: set[str] = set()

    def line(message: str) -> None:
        if message not in seen:
            seen.add(message)
            print(f"{time.monotonic() - started:4.0f} s  {message}", file=sys.stderr, flush=True)

    yield line


if __name__ == "__main__":
    sys.exit(main())
