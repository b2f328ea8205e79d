"""Workers that behave well and badly, named by the tests as `pool_workers:NAME`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np


class AwkwardError(Exception):
    """An exception that does not survive pickling."""

    def __init__(self, code, text):
        super().__init__(f"{text} ({code})")


class Scale:
    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, batch):
        if "log" in batch:
            with Path(batch["log"]).open("a") as lines:
                lines.write(f"{batch['kind']}\n")
        misbehave(batch.get("kind", "good"))
        columns = {"values": batch["values"] * self.factor, "process": np.array([os.getpid()])}
        if str(batch.get("kind", "")).startswith("late"):  # trouble for the stage behind
            columns |= {name: np.array([batch[name]]) for name in ("kind", "log") if name in batch}
        return columns


class Reduce:
    """A second stage: adds up what `Scale` made."""

    def __init__(self, delay=0.0):
        self.delay = delay

    def __call__(self, batch):
        time.sleep(self.delay)
        kind = str(batch["kind"][0]) if "kind" in batch else "good"
        if kind.startswith("late"):
            if "log" in batch:
                with Path(str(batch["log"][0])).open("a") as lines:
                    lines.write(f"post-{kind}\n")
            if kind == "late-kill":
                os._exit(1)
            raise ValueError("bad boxes")
        values = batch["values"]
        return {
            "sum": np.array([values.sum()]),
            "process": np.array([os.getpid()]),
            "earlier": batch["process"],
            "is_view": np.array([not values.flags.writeable and not values.flags.owndata]),
        }


def misbehave(kind):
    if kind == "raise":
        raise ValueError("bad pixels")
    if kind == "awkward":
        raise AwkwardError(7, "cannot be pickled")
    if kind == "exit":
        sys.exit(3)
    if kind == "kill":
        os._exit(1)
    if kind == "hang":
        time.sleep(600)
    if kind == "slow":
        time.sleep(0.3)


def make_constant(value=5):
    return lambda batch: {"values": np.full(1, value)}


def make_pickled():
    return lambda batch: {"values": np.array([object()])}


def make_list():
    return lambda batch: [1, 2]


def make_environment():
    def report(batch):
        import torch

        return {
            "polars": np.array([int(os.environ["POLARS_MAX_THREADS"])]),
            "torch": np.array([torch.get_num_threads()]),
            "process": np.array([os.getpid()]),
        }

    return report


def make_place():
    def report(batch):
        import ray

        misbehave(batch["kind"])
        return {
            "node": np.array([ray.get_runtime_context().get_node_id()]),
            "folder": np.array([str(Path.cwd())]),
        }

    return report


class Unbuildable:
    def __init__(self):
        raise FileNotFoundError("no weights at model.pt")


class DiesWhileBuilt:
    def __init__(self):
        os._exit(1)


class HangsWhileBuilt:
    def __init__(self):
        time.sleep(600)


NOT_CALLABLE = 3
