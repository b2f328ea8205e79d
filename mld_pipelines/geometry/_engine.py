"""Which engine computes: kernels that numba compiled, or whole arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["engine", "kernels"]


def kernels() -> ModuleType | None:
    """Return the module of compiled kernels, or None without numba."""
    from mld_pipelines.geometry import _edges, _jit

    return _edges if _jit.AVAILABLE else None


def engine() -> str:
    """Return what computes with arrays: `numba` (extra `detection`) or `numpy`. Both give the same values."""
    return "numpy" if kernels() is None else "numba"
