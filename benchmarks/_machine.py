"""What else the machine was doing: a timing says nothing without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MAX_FOREIGN_CORES", "MAX_LOAD", "Machine", "Watch", "settle"]

MAX_LOAD = 1.5
"""1-minute load before a benchmark above which it gives no verdict (measured: the same row moves by 25 % below it)."""

MAX_FOREIGN_CORES = 0.3
"""Cores that other processes used meanwhile, on average, above which there is no verdict either: load lags by a minute,
so a neighbour that starts after the benchmark would not be seen."""

_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and beside what a benchmark ran.

    Attributes:
        python: Version of Python.
        processor: Name of the processor.
        cores: Logical cores.
        load: 1-minute load before the benchmark.
        foreign_cores: Cores that other processes used meanwhile, on average; None where it cannot be told.
        seconds: Wall time of the benchmark, preparation included.
        day: UTC day of the run.
        versions: Version by distribution.
    """

    python: str
    processor: str
    cores: int
    load: float
    foreign_cores: float | None
    seconds: float
    day: str
    versions: dict[str, str]

    @property
    def is_quiet(self) -> bool:
        """Whether the machine was idle enough for a verdict."""
        return self.load <= MAX_LOAD and (self.foreign_cores is None or self.foreign_cores <= MAX_FOREIGN_CORES)

    def describe(self) -> str:
        """Return one line for the head of a table."""
        foreign = "" if self.foreign_cores is None else f", others used {self.foreign_cores:.2f} cores"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.day}, {self.processor}, {self.cores} cores, Python {self.python}, load {self.load:.2f} before"
            f"{foreign}, {self.seconds:.0f} s; {versions}"
        )


class Watch:
    """Notes load and processor use from its construction on."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._started = time.monotonic()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def stop(self, *distributions: str) -> Machine:
        """Return the machine as it was since construction.

        Args:
            *distributions: Distributions whose version belongs to the table; absent ones are left out.
        """
        seconds = time.monotonic() - self._started
        busy = _busy_seconds()
        foreign = None
        if busy is not None and self._busy is not None:
            foreign = max(0.0, (busy - self._busy) - (_own_seconds() - self._own)) / seconds
        return Machine(
            python=platform.python_version(),
            processor=_processor(),
            cores=os.cpu_count() or 1,
            load=self._load,
            foreign_cores=foreign,
            seconds=seconds,
            day=time.strftime("%Y-%m-%d", time.gmtime()),
            versions={name: version for name in distributions if (version := _version(name))},
        )


def settle(seconds: float) -> float:
    """Wait until the load allows a verdict, at most so long; return the load then.

    Args:
        seconds: Patience: the load of the benchmark before decays within a minute.
    """
    deadline = time.monotonic() + seconds
    while (load := os.getloadavg()[0]) > MAX_LOAD and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    return load


def _own_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy_seconds() -> float | None:
    """Processor time of everything since boot, without idle and waiting; None without `/proc`."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _wait, irq, softirq = map(int, stat.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
