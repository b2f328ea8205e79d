"""Families by name: built-in ones, and the user's as `module:function`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.stress._family import Family
from mld_pipelines.stress._images import image_families
from mld_pipelines.stress._points import point_families
from mld_pipelines.stress._tabular import tabular_families

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.stress._images import Layout
    from mld_pipelines.stress._tabular import TabularReference

__all__ = ["find_families"]


def find_families(
    name: str,
    *,
    layout: Layout = "auto",
    reference: TabularReference | None = None,
    has_intensity: bool = True,
) -> tuple[Family, ...]:
    """Return the families of a stress pass.

    Args:
        name: `"image"`, `"tabular"`, `"points"`, or `"package.module:function"` where the function takes no arguments
            and returns one `Family` or several.
        layout: Layout of one image.
        reference: Columns of the reference; needed for `"tabular"`.
        has_intensity: Whether the fourth column of a scan is an intensity.

    Raises:
        InvalidInputError: The name is none of these, the tabular reference is missing, or two families or kinds
            have the same name.
        ConfigurationError: The user's function cannot be imported or returns something else.
    """
    if name == "image":
        return image_families(layout=layout)
    if name == "points":
        return point_families(has_intensity=has_intensity)
    if name == "tabular":
        if reference is None:
            raise InvalidInputError(
                "tabular families need the reference's columns; nothing was prepared. Pass TabularReference.fit(rows)."
            )
        return tabular_families(reference)
    if ":" not in str(name):
        raise InvalidInputError(
            f"families {name!r} do not exist; nothing was prepared. Pass 'image', 'tabular', 'points' or "
            "'package.module:function'."
        )
    return _of_user(name)


def check_unique(families: Sequence[Family]) -> None:
    """Refuse families that could not be told apart in a table.

    Raises:
        InvalidInputError: None were given, or two families or two kinds have the same name.
    """
    for what, names in (
        ("families", [family.name for family in families]),
        ("kinds", [kind.name for family in families for kind in family.kinds]),
    ):
        if not names or len(set(names)) < len(names):
            raise InvalidInputError(
                f"the {what} of the stress pass are {sorted(names)}; nothing was prepared. Pass at least one, each "
                "with a name of its own."
            )


def _of_user(name: str) -> tuple[Family, ...]:
    """Call the user's function and check what it returned."""
    try:
        returned = resolve(name)()
    except (ConfigurationError, InvalidInputError):
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{name!r} failed with {type(error).__name__}: {error}; nothing was prepared. The function is called "
            "without arguments and returns one Family or several."
        ) from error
    families = (returned,) if isinstance(returned, Family) else returned
    if not isinstance(families, list | tuple) or not all(isinstance(family, Family) for family in families):
        raise ConfigurationError(
            f"{name!r} returned {type(returned).__name__}; nothing was prepared. Return one Family or several."
        )
    check_unique(families)
    return tuple(families)
