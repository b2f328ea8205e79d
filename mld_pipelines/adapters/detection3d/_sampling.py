"""Features at the centres of boxes, for detections whose own row in the head's output cannot be found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

__all__ = ["BevGrid", "sample_found", "sample_map"]


@dataclass(frozen=True, slots=True)
class BevGrid:
    """Where the cells of a bird's-eye-view map lie: cell i covers [origin + i·cell, origin + (i + 1)·cell).

    Attributes:
        x: Where the map begins, metres.
        y: The same across.
        cell_x: Size of a cell, metres.
        cell_y: The same across.
        is_transposed: Whether the map's axes are (X, Y); else (Y, X).
    """

    x: float
    y: float
    cell_x: float
    cell_y: float
    is_transposed: bool = False

    @classmethod
    def over(cls, pc_range: Sequence[float], shape: Sequence[int], *, is_transposed: bool = False) -> BevGrid:
        """Return the grid of a map that covers a range.

        Args:
            pc_range: Six numbers, metres.
            shape: Rows and columns of the map.
            is_transposed: Whether rows run along x.
        """
        columns, rows = (shape[0], shape[1]) if is_transposed else (shape[1], shape[0])
        cell_x, cell_y = (pc_range[3] - pc_range[0]) / columns, (pc_range[4] - pc_range[1]) / rows
        return cls(float(pc_range[0]), float(pc_range[1]), cell_x, cell_y, is_transposed)


def sample_map(feature_map: torch.Tensor, centres: torch.Tensor, grid: BevGrid) -> torch.Tensor:
    """Return a map's features at box centres, bilinear between the middles of cells; zeros outside.

    Args:
        feature_map: (C, rows, columns).
        centres: (N, 2) x and y, metres.
        grid: Of the map.

    Returns:
        (N, C) in the map's dtype.
    """
    import torch

    rows, columns = feature_map.shape[-2:]
    size = centres.new_tensor([grid.cell_x, grid.cell_y])
    place = (centres - centres.new_tensor([grid.x, grid.y])) / size
    place = place.flip(1) if grid.is_transposed else place
    # in float32: half precision cannot tell neighbouring cells apart
    where = (2.0 * place / centres.new_tensor([columns, rows]) - 1.0).float()
    found = torch.nn.functional.grid_sample(feature_map[None].float(), where[None, None], align_corners=False)
    return found[0, :, 0].T.to(feature_map.dtype)


def sample_found(
    feature_map: Any, found: Mapping[str, torch.Tensor], pc_range: Any, *, is_transposed: bool = False
) -> dict[str, torch.Tensor]:
    """Return a batch's features at the centres of its detections as `sampled`; nothing where map or range is missing.

    Args:
        feature_map: (B, C, rows, columns) over the whole range, or None.
        found: `boxes` and `offsets` of `ragged`.
        pc_range: Six numbers, metres, or None.
        is_transposed: Whether rows run along x.
    """
    import torch

    edges = found["offsets"].tolist()
    if feature_map is None or pc_range is None or feature_map.dim() != 4 or feature_map.shape[0] != len(edges) - 1:
        return {}
    grid = BevGrid.over(pc_range, feature_map.shape[-2:], is_transposed=is_transposed)
    centres = found["boxes"][:, :2].to(feature_map.device)
    frames = [
        sample_map(feature_map[place].detach(), centres[start:stop], grid)
        for place, (start, stop) in enumerate(pairwise(edges))
    ]
    return {"sampled": torch.cat(frames)}
