"""Equal randomness wherever a batch runs."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["seeded"]

_MODULUS = 2**32  # numpy's seeds


@contextmanager
def seeded(seed: int, batch: int = 0) -> Iterator[None]:
    """Seed random, numpy and (where it is loaded) torch inside the block; restore their states after it.

    Args:
        seed: Seed of the run.
        batch: First item of the batch, so that a batch draws the same numbers in whichever worker it runs.
    """
    value = (seed + 1_000_003 * batch) % _MODULUS
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.random.get_rng_state()
    random.seed(value)
    np.random.seed(value)
    if torch is not None:
        torch.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch is not None and torch_state is not None:
            torch.random.set_rng_state(torch_state)
