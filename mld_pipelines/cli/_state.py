"""The state directory: what `mld init` makes and every other command finds."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mld_pipelines.exceptions import StorageError

__all__ = ["Initialised", "dagster_home", "initialise"]


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `initialise` found and made.

    Attributes:
        home: The state directory.
        made: Paths that did not exist.
        kept: Configuration that exists and differs from this version's; it is the user's and stays.
    """

    home: Path
    made: tuple[Path, ...]
    kept: tuple[Path, ...]


def dagster_home(home: Path) -> Path:
    """Return the folder that `DAGSTER_HOME` names."""
    return home / "dagster"


def initialise(home: Path) -> Initialised:
    """Make the state directory with its lake, spool and Dagster instance; what exists is never changed.

    Raises:
        StorageError: The directory cannot be written.
    """
    made: list[Path] = []
    kept: list[Path] = []
    configuration = dagster_home(home) / "dagster.yaml"
    template = files("mld_pipelines.cli").joinpath("templates", "dagster.yaml").read_text(encoding="utf-8")
    try:
        for folder in (home, home / "lake", home / "spool", dagster_home(home)):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                made.append(folder)
        if not configuration.exists():
            _write(configuration, template)
            made.append(configuration)
        elif configuration.read_text(encoding="utf-8") != template:
            kept.append(configuration)
    except OSError as error:
        raise StorageError(
            f"state directory {home} cannot be made: {error.strerror or error}. Set MLD_HOME to a writable folder."
        ) from error
    return Initialised(home, tuple(made), tuple(kept))


def _write(path: Path, text: str) -> None:
    """Write by rename, so that a daemon starting at the same moment never reads half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
