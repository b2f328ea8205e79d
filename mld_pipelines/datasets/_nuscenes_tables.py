"""The JSON tables of nuScenes, read row by row: `sample_data.json` of the full set alone has more than a gigabyte."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mld_pipelines.exceptions import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["NuScenesTables"]

_CHUNK = 1 << 20
"""Characters read at once: a row has a few hundred."""

_START = re.compile(r"\s*\[")
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


class NuScenesTables:
    """Tables of one version of a nuScenes folder.

    Args:
        root: The data set's folder.
        version: Folder of the tables, e.g. `v1.0-mini`.

    Raises:
        NotFoundError: There is no such folder.
    """

    def __init__(self, root: Path, version: str) -> None:
        self._folder = root / version
        if not self._folder.is_dir():
            known = sorted(path.parent.name for path in root.glob("*/sample_data.json")) if root.is_dir() else []
            raise NotFoundError(
                f"{self._folder} does not exist; nothing was read. Versions in {root}: {', '.join(known) or 'none'}."
            )

    def path(self, table: str) -> Path:
        """Return the file of a table."""
        return self._folder / f"{table}.json"

    def rows(self, table: str, *fields: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table, one in memory at a time.

        Args:
            table: Name of the table, e.g. `sample`.
            fields: Columns every row must have.

        Raises:
            NotFoundError: The file is missing.
            InvalidInputError: It is no list of objects with these columns, or ends early.
        """
        path = self.path(table)
        if not path.is_file():
            raise NotFoundError(f"{path} is missing; nothing was read. Unpack the metadata archive of nuScenes again.")
        for number, row in enumerate(_objects(path)):
            missing = [field for field in fields if not isinstance(row, dict) or field not in row]
            if missing:
                raise InvalidInputError(f"{path}, row {number}: {', '.join(missing)} missing; nothing was read.")
            yield row


def _objects(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK)
        at = _START.match(text)
        if at is None:
            raise InvalidInputError(f"{path} starts with {text[:20]!r}; a table is a list. Nothing was read.")
        position = at.end()
        while True:
            position = _skip(text, position)
            if text[position : position + 1] == "]":
                return
            try:
                row, position = _DECODER.raw_decode(text, position)
            except ValueError:  # the row goes on in the next chunk
                chunk = file.read(_CHUNK)
                if not chunk:
                    rest = text[position : position + 60]
                    raise InvalidInputError(
                        f"{path} ends inside or is broken at {rest!r}; nothing was read. Unpack the metadata again."
                    ) from None
                text, position = text[position:] + chunk, 0
            else:
                yield row


def _skip(text: str, position: int) -> int:
    between = _BETWEEN.match(text, position)
    return position if between is None else between.end()
