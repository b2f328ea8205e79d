"""Matrix products whose rows come out the same, to the bit, wherever they stand in a block.

A fixed number of rows is not enough: where the last rows meet the last columns, BLAS switches to another kernel, and
a row rounds differently there (measured with OpenBLAS 0.3.31: 256 x 16 times 16 x 500 depends on the row's position
in its last four columns, on one thread and on two; with 512 columns it does not). Zero columns remove that corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FixedProduct"]

#: A multiple of every kernel width in use (2 to 32 columns of float64).
COLUMN_MULTIPLE = 64


@dataclass(frozen=True, slots=True, eq=False)
class FixedProduct:
    """Right-hand side of a product, padded with zero columns.

    Attributes:
        padded: `(d, multiple of 64)`, C-contiguous.
        width: Columns that count.
    """

    padded: NDArray[np.float64]
    width: int

    @classmethod
    def of(cls, matrix: NDArray[np.floating]) -> FixedProduct:
        """Pad a `(d, width)` matrix."""
        rows, width = matrix.shape
        columns = -(-width // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
        padded = np.zeros((rows, columns))
        padded[:, :width] = matrix
        return cls(padded, width)

    def padded_after(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """`block @ matrix` with its zero columns, `(BLOCK_ROWS, multiple of 64)`."""
        product: NDArray[np.float64] = block @ self.padded
        return product

    def after(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """`block @ matrix`, a view of `(BLOCK_ROWS, width)`."""
        return self.padded_after(block)[:, : self.width]
