"""Data sets on disk that need no registration: `kitti:/path?split=val`, `nuscenes:/path?version=v1.0-mini`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from mld_pipelines.exceptions import InvalidInputError, NotFoundError

__all__ = ["SCHEMES", "parse_folder"]

#: Scheme to factory and the options that may follow the path; those with a True are lists, separated by commas.
SCHEMES = {
    "kitti": ("mld_pipelines.datasets:kitti", {"split": False, "points": False, "classes": True}),
    "nuscenes": ("mld_pipelines.datasets:nuscenes", {"version": False, "scenes": True, "classes": True}),
}


def parse_folder(name: str) -> tuple[str, dict[str, str | list[str]]] | None:
    """Return factory and parameters of a data set named by scheme and path; None if the name has no such scheme.

    The path becomes absolute, because workers may start elsewhere.

    Raises:
        InvalidInputError: The path is empty, or an option is unknown or given twice.
        NotFoundError: There is no such folder.
    """
    scheme, colon, rest = name.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    factory, known = SCHEMES[scheme]
    text, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    unknown, empty = [key for key, _ in options if key not in known], [key for key, value in options if not value]
    if not text or unknown or empty or len(dict(options)) < len(options):
        why = f": there is no option {unknown[0]!r}" if unknown else f": option {empty[0]!r} is empty" if empty else ""
        raise InvalidInputError(
            f"data set {name!r} cannot be read{why}. It must have the form {scheme}:/path?option=value, each of "
            f"{', '.join(known)} at most once. Nothing was recorded."
        )
    path = Path(unquote(text.removeprefix("//"))).expanduser().absolute()
    if not path.is_dir():
        raise NotFoundError(f"data set {name!r}: {path} is no folder; nothing was recorded.")
    listed = {key: value.split(",") if known[key] else value for key, value in options}
    return factory, {"path": str(path), **listed}
