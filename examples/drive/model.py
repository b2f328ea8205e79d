"""A small pillar detector in plain torch: pillars → bird's-eye backbone → centre heatmap with box regression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PC_RANGE", "CenterHead", "PillarDetector", "PillarEncoder", "SeparateHead", "drive_model", "load", "save"]

PC_RANGE = (-32.0, -32.0, -3.5, 32.0, 32.0, 3.5)
VOXEL = 0.4
STRIDE = 2
"""Cells of the heatmap: 0.8 m, as in CenterPoint's pillar models."""
CHANNELS = 32
BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
WEIGHTS = Path(__file__).parent / "weights" / "pillars.safetensors"


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class PillarEncoder(nn.Module):
    """Points to a map: one linear layer per point, the maximum per pillar, zero where no point is.

    Args:
        pc_range: x1, y1, z1, x2, y2, z2 in metres; points outside (or not finite) are left out.
        voxel: Side of a pillar, metres.
        channels: Features per pillar.
    """

    def __init__(self, pc_range: Sequence[float], voxel: float, channels: int) -> None:
        super().__init__()
        self.pc_range, self.voxel, self.channels = tuple(pc_range), voxel, channels
        self.columns = round((pc_range[3] - pc_range[0]) / voxel)
        self.rows = round((pc_range[4] - pc_range[1]) / voxel)
        self.linear = nn.Sequential(nn.Linear(9, channels, bias=False), nn.BatchNorm1d(channels), nn.ReLU())

    def forward(self, points: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (B, C, rows = y, columns = x) for B frames of (N, 4+) points."""
        frame = torch.repeat_interleave(
            torch.arange(len(points), device=points[0].device),
            torch.tensor([len(p) for p in points], device=points[0].device),
        )
        rows = torch.cat([p[:, :4] for p in points]).to(next(self.parameters()).dtype)
        low, high = rows.new_tensor(self.pc_range[:3]), rows.new_tensor(self.pc_range[3:])
        inside = ((rows[:, :3] >= low) & (rows[:, :3] < high)).all(dim=1)
        rows, frame = rows[inside].nan_to_num(), frame[inside]
        cell = torch.div(rows[:, :2] - low[:2], self.voxel, rounding_mode="floor").long()
        cell = torch.minimum(cell, cell.new_tensor([self.columns - 1, self.rows - 1]))
        pillar = (frame * self.rows + cell[:, 1]) * self.columns + cell[:, 0]
        pillars = len(points) * self.rows * self.columns
        canvas = rows.new_zeros(pillars, self.channels)
        if len(rows) > 0:
            features = self.linear(self._decorated(rows, cell, pillar, pillars))
            canvas = canvas.scatter_reduce(0, pillar[:, None].expand_as(features), features, "amax")
        # channels stay last in memory, the layout in which CPU convolutions are fastest
        return canvas.view(len(points), self.rows, self.columns, self.channels).permute(0, 3, 1, 2)

    def _decorated(self, rows: torch.Tensor, cell: torch.Tensor, pillar: torch.Tensor, pillars: int) -> torch.Tensor:
        """x, y, z, intensity; offset from the pillar's centre in x and y; offset from the mean of its points."""
        low = rows.new_tensor(self.pc_range[:2])
        number = rows.new_zeros(pillars).index_add(0, pillar, torch.ones_like(rows[:, 0])).clamp(min=1.0)
        mean = rows.new_zeros(pillars, 3).index_add(0, pillar, rows[:, :3]) / number[:, None]
        offset = (rows[:, :2] - low) / self.voxel - cell - 0.5
        scale = rows.new_tensor([1 / 32, 1 / 32, 1.0, 1.0])
        return torch.cat([rows[:, :4] * scale, offset, rows[:, :3] - mean[pillar]], dim=1)


class Backbone(nn.Module):
    """Three scales (strides 2, 4, 8), brought back to stride 2 and laid side by side."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        c = channels
        self.fine = nn.Sequential(_block(inputs, c, stride=2), _block(c, c), _block(c, c))
        self.middle = nn.Sequential(_block(c, 2 * c, stride=2), _block(2 * c, 2 * c), _block(2 * c, 2 * c))
        self.coarse = nn.Sequential(_block(2 * c, 2 * c, stride=2), _block(2 * c, 2 * c), _block(2 * c, 2 * c))
        self.lateral = nn.ModuleList(nn.Conv2d(k * c, c, 1) for k in (1, 2, 2))

    def forward(self, canvas: torch.Tensor) -> torch.Tensor:
        """Return (B, 3 · channels, H / 2, W / 2)."""
        fine = self.fine(canvas)
        middle = self.middle(fine)
        maps = [side(m) for side, m in zip(self.lateral, (fine, middle, self.coarse(middle)), strict=True)]
        size = maps[0].shape[-2:]
        return torch.cat([maps[0], *(nn.functional.interpolate(m, size, mode="nearest") for m in maps[1:])], dim=1)


class SeparateHead(nn.Module):
    """The branches of one task: `heatmap`, `reg`, `height`, `dim`, `rot`, `vel`, each two convolutions."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        for name, outputs in {"heatmap": classes, **BRANCHES}.items():
            width = inputs if name == "heatmap" else inputs // 2
            last = nn.Conv2d(width, outputs, 1)
            if name == "heatmap":
                nn.init.constant_(cast("torch.Tensor", last.bias), -2.19)  # scores of 0.1, as focal losses want it
            self.add_module(name, nn.Sequential(_block(inputs, width), last))

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return one map per branch."""
        return {name: branch(features) for name, branch in self.named_children()}


class CenterHead(nn.Module):
    """A shared convolution and one `SeparateHead` per task; here one task with all classes.

    Args:
        inputs: Channels of the backbone's map.
        channels: Of the shared features.
        tasks: Class names of each task.
    """

    def __init__(self, inputs: int, channels: int, tasks: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.class_names = [list(names) for names in tasks]
        self.num_classes = [len(names) for names in tasks]
        self.shared_conv = _block(inputs, channels)
        self.task_heads = nn.ModuleList(SeparateHead(channels, len(names)) for names in tasks)

    def forward(self, features: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """Return the maps of every task."""
        shared = self.shared_conv(features)
        return [head(shared) for head in self.task_heads]


class PillarDetector(nn.Module):
    """Finds road users in point clouds.

    `forward` returns one dict per frame: `boxes_3d` (N, 9) as cx, cy, cz, w, l, h, yaw, vx, vy (gravity centre, metres,
    l along the heading, yaw counter-clockwise from +x), `scores_3d` (N,) by falling score, `labels_3d` (N,).

    Args:
        class_names: Names of the labels.
        score_thresh: Lowest score returned.
        iou_thresh: Two boxes of one class that overlap more (upright rectangles nearest to them) are one.
        max_detections_per_frame: Most boxes returned.
    """

    box_convention = "canonical"

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        score_thresh: float = 0.1,
        iou_thresh: float = 0.2,
        max_detections_per_frame: int = 150,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.pc_range, self.voxel_size, self.out_size_factor = list(PC_RANGE), [VOXEL, VOXEL], STRIDE
        self.score_thresh, self.iou_thresh = score_thresh, iou_thresh
        self.max_detections_per_frame = max_detections_per_frame
        self.voxel_encoder = PillarEncoder(PC_RANGE, VOXEL, CHANNELS)
        self.backbone = Backbone(CHANNELS, CHANNELS)
        self.bbox_head = CenterHead(3 * CHANNELS, CHANNELS, [class_names])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, points: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Return the detections of every frame; one tensor instead of a list is one frame."""
        frames = [points] if isinstance(points, torch.Tensor) else list(points)
        if not frames:
            return []
        return self.decode(self.maps(frames))

    def maps(self, points: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the raw maps of the head, (B, ·, H = y, W = x)."""
        maps: dict[str, torch.Tensor] = self.bbox_head(self.backbone(self.voxel_encoder(points)))[0]
        return maps

    def decode(self, maps: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Return boxes from the maps: peaks of the heatmap, best first, without those that overlap a better one."""
        heat = maps["heatmap"].sigmoid()
        peaks = heat * (heat == nn.functional.max_pool2d(heat, 3, stride=1, padding=1))
        scores, index = peaks.flatten(1).topk(min(2 * self.max_detections_per_frame, peaks[0].numel()), dim=1)
        area = heat.shape[-2] * heat.shape[-1]
        labels, cell = index // area, index % area
        boxes = self._boxes(maps, cell)
        found = []
        for one, score, label in zip(boxes, scores, labels, strict=True):
            kept = self._kept(one, score, label)
            found.append({"boxes_3d": one[kept], "scores_3d": score[kept], "labels_3d": label[kept]})
        return found

    def _boxes(self, maps: Mapping[str, torch.Tensor], cell: torch.Tensor) -> torch.Tensor:
        """(B, K, 9) boxes of these cells."""
        at = {name: maps[name].flatten(2).gather(2, cell[:, None].expand(-1, n, -1)) for name, n in BRANCHES.items()}
        side = VOXEL * STRIDE
        width = maps["heatmap"].shape[-1]
        x = (cell % width + at["reg"][:, 0]) * side + self.pc_range[0]
        y = (cell // width + at["reg"][:, 1]) * side + self.pc_range[1]
        yaw = torch.atan2(at["rot"][:, 0], at["rot"][:, 1])
        return torch.stack([x, y, at["height"][:, 0], *at["dim"].exp().unbind(1), yaw, *at["vel"].unbind(1)], dim=2)

    def _kept(self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Rows that stay, by falling score: greedy suppression within each class."""
        rows = torch.nonzero(scores >= self.score_thresh)[:, 0]
        boxes, labels = boxes[rows], labels[rows]
        clash = (_upright_iou(boxes) > self.iou_thresh) & (labels[:, None] == labels)
        alive = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        for row in range(len(rows)):
            if alive[row]:
                alive[row + 1 :] &= ~clash[row, row + 1 :]
        return rows[alive][: self.max_detections_per_frame]


def _upright_iou(boxes: torch.Tensor) -> torch.Tensor:
    """(K, K) overlaps of the axis-parallel rectangles nearest to the boxes seen from above."""
    sideways = boxes[:, 6].cos().abs() < boxes[:, 6].sin().abs()
    size = torch.where(sideways[:, None], boxes[:, [3, 4]], boxes[:, [4, 3]])
    low, high = boxes[:, :2] - size / 2, boxes[:, :2] + size / 2
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(dim=2)
    area = size.prod(dim=1)
    return shared / (area[:, None] + area - shared)


def save(model: PillarDetector, path: Path) -> None:
    """Write the weights with the class names as metadata."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"class_names": json.dumps(model.class_names)})
    path.chmod(0o644)  # safetensors writes for the owner alone


def load(path: Path = WEIGHTS) -> PillarDetector:
    """Return the detector with these weights, in eval mode."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model = PillarDetector(json.loads(file.metadata()["class_names"]))
    model.load_state_dict(state)
    return model.eval()


def drive_model() -> PillarDetector:
    """Return the shipped detector: a factory for `mld models register`."""
    return load()
