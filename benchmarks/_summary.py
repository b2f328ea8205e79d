"""The promises of a group of benchmarks in two tables: equal to whom, and how much faster."""

from __future__ import annotations

import re

from benchmarks._page import table_of

__all__ = ["group_tables", "summed_up", "titled"]

_ROW = re.compile(
    r"^\| (?P<promise>.*?) +\| (?P<measured>.*?) +\| (?P<verdict>met|missed|no verdict) +\|$", re.MULTILINE
)

_PEERS = {
    r"^nuScenes": "nuscenes-devkit, its own functions",
    r"^KITTI": "MMDetection3D's `kitti_eval`, overlaps by shapely",
    r"^TIDE": "tidecv",
    r"hard pair": "exact rational arithmetic",
    r"equal boxes": "1, by definition",
    r"shapely": "shapely",
    r"device and CPU|same order": "our CPU",
}
_PARITY = re.compile(r"difference|error ≤|IoU within|no other type|none kept|agree|same boxes kept")


def group_tables(tables: dict[str, str]) -> tuple[str, str]:
    """Return the tables of parity and of speed, without their titles.

    Args:
        tables: Markdown of each benchmark by name.
    """
    parity, speed = [], []
    for name, table in tables.items():
        for found in _ROW.finditer(table):
            promise, measured, verdict = found["promise"].strip(), found["measured"].strip(), found["verdict"]
            place = f"`{name}`"
            if _PARITY.search(promise):
                peer = next((peer for sign, peer in _PEERS.items() if re.search(sign, promise)), "")
                parity.append(f"| {peer} | {promise} | {measured} | {verdict} | {place} |")
            else:
                speed.append(f"| {promise} | {measured} | {verdict} | {place} |")
    return (
        "\n".join(
            ["| ours against | promised | measured | verdict | table |", "| --- | --- | --- | --- | --- |", *parity]
        ),
        "\n".join(["| promised | measured | verdict | table |", "| --- | --- | --- | --- |", *speed]),
    )


def summed_up(page: str, names: tuple[str, ...]) -> str:
    """Return what the page keeps for a group, made of the tables of its benchmarks there.

    Args:
        page: Text of the page.
        names: Benchmarks of the group.
    """
    return titled(*group_tables({name: table_of(page, name) for name in names}))


def titled(parity: str, speed: str) -> str:
    """Return both tables under their titles."""
    return f"### Parity\n\n{parity}\n\n### Speed\n\n{speed}"
