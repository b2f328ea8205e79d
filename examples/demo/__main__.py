"""`python -m examples.demo`: run the whole loop in `.mld/demo` (or `MLD_DEMO_HOME`) and print what it found."""

from __future__ import annotations

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
    from collections.abc import Callable, Iterator

    from mld_pipelines.cli import Platform
    from mld_pipelines.evaluator import Result
    from mld_pipelines.lake import Lake


def main() -> int:
    """Run the demo; returns the exit status."""
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
            results, truth, counts = run(step)
    except MldError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    lake = Lake.open()
    if "--json" in sys.argv:
        print(json.dumps(summary.document(lake, results, truth, counts), default=str))
    else:
        summary.print_summary(lake, results, truth, counts)
        print(f"\n{time.monotonic() - started:.0f} s in all.")
    return 0


def run(step: Callable[[str], None]) -> tuple[list[Result], Any, dict[str, dict[str, Any]]]:
    """Run every step beside a real Dagster webserver and daemon; returns results, truth and stream counts."""
    from examples.demo import loop
    from examples.demo.digits import load_digits, train
    from mld_pipelines.cli import running_platform
    from mld_pipelines.lake import Lake

    home = Path(os.environ["MLD_HOME"])
    step("starting Dagster (webserver and daemon, sensors tick every 2 s)")
    with running_platform(CHECKOUT / "workspace.yaml", home=home, port=0, progress=step) as platform:
        lake = Lake.open()
        step(f"Dagster UI at {platform.url}; training a small network on 8×8 digits")
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
        step("waiting for the last runs to end")
        wait(loop, "quiet", Quiet(platform), platform.require_alive)
    counts = {
        "tracer": {"rows": receipt.rows, "known": receipt.known, "quarantined": receipt.quarantined},
        "logger": {"rows": stats.emitted, "known": stats.known, "quarantined": stats.quarantined},
        "labels": {"rows": labels.rows, "known": labels.known, "quarantined": labels.quarantined},
    }
    return [first, second], truth, counts


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
