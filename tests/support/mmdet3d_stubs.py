"""Stand-ins for MMDetection3D, which needs a compiled mmcv: the same class names, attribute paths and raw shapes.

They follow open-mmlab/mmdetection3d v1.4.0 and v0.17.1 in what an adapter sees: how a detector is called, what its head
returns and how detections come from that. Features are made of the points by two convolutions; suppression is by centre
distance everywhere, because which of two boxes survives is not the adapters' business.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import nn

RANGE = [0.0, -12.8, -3.0, 25.6, 12.8, 1.0]
ROWS, COLUMNS, CHANNELS = 16, 16, 6


class Config(dict):
    """mmengine's ConfigDict: keys are attributes as well; one that is missing is an AttributeError."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class LiDARInstance3DBoxes:
    """Of 1.x: bottom centre, (l, w, h), yaw from +x."""

    YAW_AXIS = 2

    def __init__(self, tensor, box_dim=7):
        self.tensor = tensor.clone().reshape(-1, box_dim)


class _OldBoxes:
    """Of 0.x: bottom centre, (w, l, h), yaw from −y, clockwise. It has no YAW_AXIS."""

    def __init__(self, tensor, box_dim=7):
        self.tensor = tensor.clone().reshape(-1, box_dim)


_OldBoxes.__name__ = _OldBoxes.__qualname__ = "LiDARInstance3DBoxes"


class CameraInstance3DBoxes(LiDARInstance3DBoxes):
    """In a camera's frame."""


def boxes_of(version, tensor):
    kind = _OldBoxes if version == "v0" else LiDARInstance3DBoxes
    return kind(tensor, tensor.shape[-1])


class Base3DDetector(nn.Module):
    """What all detectors of one version share: `test_step` in 1.x, `return_loss=False` in 0.x."""

    def __init__(self, version="v1"):
        super().__init__()
        self.version = version
        self.stem = nn.Conv2d(2, CHANNELS, 3, padding=1)
        layer = nn.Module()
        layer.point_cloud_range = list(RANGE)
        if version == "v1":
            self.data_preprocessor = nn.Module()
            self.data_preprocessor.voxel_layer = layer
        else:
            self.voxel_layer = layer

    def test_step(self, data):
        inputs, samples = data["inputs"], data["data_samples"]
        for sample, found in zip(samples, self.detections(inputs["points"]), strict=True):
            boxes, scores, labels = found
            sample.pred_instances_3d = SimpleNamespace(bboxes_3d=boxes, scores_3d=scores, labels_3d=labels)
        return samples

    def forward(self, return_loss=True, points=None, img_metas=None, **_kwargs):
        assert self.version != "v1", "1.x is called through test_step; forward returns raw tensors"
        assert return_loss is False
        assert isinstance(points[0], list), "points are nested twice: test-time augmentation, then frames"
        assert len(points[0]) == len(img_metas[0])
        img_metas[0][0]["seen"] = True  # as BEVFormer rewrites can_bus
        names = ("boxes_3d", "scores_3d", "labels_3d")
        return [dict(zip(names, found, strict=True)) for found in self.detections(points[0])]

    def features(self, points):
        """Count points and add up heights per cell, then convolve."""
        maps = torch.zeros(len(points), 2, ROWS, COLUMNS)
        for frame, cloud in enumerate(points):
            column = ((cloud[:, 0] - RANGE[0]) / (RANGE[3] - RANGE[0]) * COLUMNS).long().clamp(0, COLUMNS - 1)
            row = ((cloud[:, 1] - RANGE[1]) / (RANGE[4] - RANGE[1]) * ROWS).long().clamp(0, ROWS - 1)
            maps[frame, 0].index_put_((row, column), torch.tensor(0.1), accumulate=True)
            maps[frame, 1].index_put_((row, column), cloud[:, 2], accumulate=True)
        return torch.relu(self.stem(maps))


class VoxelNet(Base3DDetector):
    """PointPillars and SECOND."""

    def __init__(self, version="v1", **head):
        super().__init__(version)
        self.bbox_head = Anchor3DHead(version, **head)

    def detections(self, points):
        return self.bbox_head.predict(self.bbox_head([self.features(points)]))


class MVXFasterRCNN(VoxelNet):
    """The same head under another name, results inside `pts_bbox` in 0.x."""

    def __init__(self, version="v1", **head):
        super().__init__(version, **head)
        self.pts_bbox_head = self._modules.pop("bbox_head")
        self.voxel_layer_name = "pts_voxel_layer"
        if version != "v1":
            self.pts_voxel_layer = self._modules.pop("voxel_layer")

    def detections(self, points):
        return self.pts_bbox_head.predict(self.pts_bbox_head([self.features(points)]))

    def forward(self, *args, **kwargs):
        return [{"pts_bbox": one} for one in super().forward(*args, **kwargs)]


class CenterPoint(Base3DDetector):
    """CenterPoint, and by its head BEVDet."""

    def __init__(self, version="v1", **head):
        super().__init__(version)
        self.pts_bbox_head = CenterHead(version, **head)

    def detections(self, points):
        return self.pts_bbox_head.predict(self.pts_bbox_head([self.features(points)]))


class PartA2(VoxelNet):
    """Two stages: a RoI head scores and moves what the anchors proposed."""

    def __init__(self, version="v1"):
        super().__init__(version)
        self.neck = nn.Conv2d(CHANNELS, 5, 1)
        self.rpn_head = self._modules.pop("bbox_head")
        self.roi_head = nn.Module()
        self.test_cfg = Config(rpn=Config(score_thr=0.0), rcnn=Config(score_thr=0.15, nms_thr=0.1))

    def features(self, points):
        maps = super().features(points)
        self.neck(maps)
        return maps

    def detections(self, points):
        found = self.rpn_head.predict(self.rpn_head([self.features(points)]))
        return [(boxes_of(self.version, boxes.tensor + 0.1), 0.9 * scores, labels) for boxes, scores, labels in found]


class _Generator:
    """Anchors of every cell: two sizes, two headings, (1, rows, columns, sizes, headings, 7)."""

    def grid_anchors(self, sizes, device="cpu"):
        levels = []
        for rows, columns in sizes:
            made = torch.zeros(1, rows, columns, 2, 2, 7)
            cell_x, cell_y = (RANGE[3] - RANGE[0]) / columns, (RANGE[4] - RANGE[1]) / rows
            made[..., 0] = (RANGE[0] + (torch.arange(columns) + 0.5) * cell_x)[None, None, :, None, None]
            made[..., 1] = (RANGE[1] + (torch.arange(rows) + 0.5) * cell_y)[None, :, None, None, None]
            made[..., 2] = -1.5
            made[..., 0, :, 3:6] = torch.tensor([3.9, 1.6, 1.5])
            made[..., 1, :, 3:6] = torch.tensor([0.8, 0.6, 1.7])
            made[..., 1, 6] = 1.57
            levels.append(made.to(device))
        return levels


class Anchor3DHead(nn.Module):
    """Two sizes, two headings and three classes in every cell."""

    def __init__(self, version="v1", nms_pre=60, threshold=0.3):
        super().__init__()
        self.version, self.num_classes, self.box_code_size = version, 3, 7
        self.use_sigmoid_cls, self.dir_offset, self.dir_limit_offset = True, 0.7854, 0
        self.conv_cls = nn.Conv2d(CHANNELS, 12, 1)
        self.conv_reg = nn.Conv2d(CHANNELS, 28, 1)
        self.conv_dir_cls = nn.Conv2d(CHANNELS, 8, 1)
        setattr(self, "prior_generator" if version == "v1" else "anchor_generator", _Generator())
        self.test_cfg = Config(score_thr=threshold, nms_thr=0.01, nms_pre=nms_pre, max_num=50, use_rotate_nms=True)

    def forward(self, maps):
        return tuple([layer(one) for one in maps] for layer in (self.conv_cls, self.conv_reg, self.conv_dir_cls))

    def predict(self, outputs):
        generator = self.prior_generator if self.version == "v1" else self.anchor_generator
        anchors = generator.grid_anchors([(ROWS, COLUMNS)])[0].reshape(-1, 7)
        return [self._frame(*(one[0][frame] for one in outputs), anchors) for frame in range(len(outputs[0][0]))]

    def _frame(self, classes, deltas, directions, anchors):
        scores = classes.permute(1, 2, 0).reshape(-1, 3).sigmoid()
        deltas = deltas.permute(1, 2, 0).reshape(-1, 7)
        bins = directions.permute(1, 2, 0).reshape(-1, 2).max(-1)[1]
        kept = scores.max(1)[0].topk(min(self.test_cfg.nms_pre, len(scores)))[1]
        boxes, scores, bins = second_boxes(anchors[kept], deltas[kept]), scores[kept], bins[kept]
        rows, labels = [], []
        for label in range(3):
            over = (scores[:, label] > self.test_cfg.score_thr).nonzero()[:, 0]
            over = over[scores[over, label].argsort(descending=True)]
            chosen = over[far_apart(boxes[over, :2], 1.5)]
            rows.append(chosen)
            labels.append(torch.full((len(chosen),), label))
        rows, labels = torch.cat(rows), torch.cat(labels)
        found = scores[rows, labels]
        best = found.argsort(descending=True)[: self.test_cfg.max_num]
        boxes, bins = boxes[rows[best]], bins[rows[best]]
        turned = boxes[:, 6] - self.dir_offset
        turned = turned - torch.floor(turned / math.pi + self.dir_limit_offset) * math.pi
        boxes[:, 6] = turned + self.dir_offset + math.pi * bins
        return boxes_of(self.version, boxes), found[best], labels[best]


def second_boxes(anchors, deltas):
    """Decode as in the SECOND paper: offsets in diagonals and heights, logarithms of sizes, bottom to bottom."""
    xa, ya, za, wa, la, ha, ra = anchors.unbind(-1)
    xt, yt, zt, wt, lt, ht, rt = deltas.unbind(-1)
    diagonal = (la**2 + wa**2).sqrt()
    height = ht.exp() * ha
    middle = zt * ha + za + ha / 2
    parts = [xt * diagonal + xa, yt * diagonal + ya, middle - height / 2]
    return torch.stack([*parts, wt.exp() * wa, lt.exp() * la, height, rt + ra], dim=-1)


def far_apart(centres, radius):
    """Return the positions that stay when each box removes the later ones nearer than a radius."""
    kept: list[int] = []
    is_near = (torch.cdist(centres, centres) < radius).tolist()
    for place in range(len(centres)):
        if not any(is_near[place][other] for other in kept):
            kept.append(place)
    return torch.tensor(kept, dtype=torch.long)


class _Separate(nn.Module):
    def __init__(self, classes, velocity):
        super().__init__()
        sizes = {"reg": 2, "height": 1, "dim": 3, "rot": 2, **({"vel": 2} if velocity else {}), "heatmap": classes}
        for name, width in sizes.items():
            setattr(self, name, nn.Conv2d(CHANNELS, width, 3, padding=1))
        self.names = list(sizes)

    def forward(self, maps):
        return {name: getattr(self, name)(maps) for name in self.names}


class CenterHead(nn.Module):
    """Two tasks with one and two classes."""

    def __init__(self, version="v1", nms_type="rotate", velocity=True, threshold=0.3, coder_threshold=0.3):
        super().__init__()
        self.version, self.num_classes, self.norm_bbox = version, [1, 2], True
        self.shared_conv = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(inplace=True))
        self.task_heads = nn.ModuleList(_Separate(classes, velocity) for classes in self.num_classes)
        self.bbox_coder = SimpleNamespace(
            pc_range=RANGE[:2],
            voxel_size=[0.4, 0.4],
            out_size_factor=4,
            max_num=40,
            score_threshold=coder_threshold,
            post_center_range=[-5.0, -18.0, -10.0, 31.0, 18.0, 10.0],
            code_size=9 if velocity else 7,
        )
        self.test_cfg = Config(
            score_threshold=threshold,
            nms_type=nms_type,
            nms_thr=0.2,
            post_max_size=9,
            min_radius=[1.0, 0.5],
            pc_range=RANGE[:2],
            max_per_img=500,
        )

    def forward(self, maps):
        shared = self.shared_conv(maps[0])
        return tuple([task(shared)] for task in self.task_heads)

    def predict(self, outputs):
        return [self._frame(outputs, frame) for frame in range(len(outputs[0][0]["heatmap"]))]

    def _frame(self, outputs, frame):
        found, first = [], 0
        for task, ([maps], classes) in enumerate(zip(outputs, self.num_classes, strict=True)):
            boxes, scores, labels = self._task({name: one[frame] for name, one in maps.items()})
            over = scores > self.bbox_coder.score_threshold
            over &= (scores >= self.test_cfg.score_threshold) | (self.test_cfg.nms_type == "circle")
            low, high = (torch.tensor(self.bbox_coder.post_center_range[part]) for part in (slice(3), slice(3, 6)))
            over &= ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(1)
            boxes, scores, labels = boxes[over], scores[over], labels[over]
            kept = far_apart(boxes[:, :2], self.test_cfg.min_radius[task])[: self.test_cfg.post_max_size]
            found.append((boxes[kept], scores[kept], labels[kept] + first))
            first += classes
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        boxes[:, 2] -= boxes[:, 5] * 0.5
        return boxes_of(self.version, boxes), scores, labels.int()

    def _task(self, maps):
        heat = maps["heatmap"].sigmoid()
        scores, index = heat.flatten().topk(self.bbox_coder.max_num)
        labels, cells = index // (ROWS * COLUMNS), index % (ROWS * COLUMNS)

        def at(name):
            return maps[name].flatten(1)[:, cells].T

        step = self.bbox_coder.out_size_factor * self.bbox_coder.voxel_size[0]
        corner = torch.stack([cells % COLUMNS, cells // COLUMNS], 1)
        centre = (corner + at("reg")) * step + torch.tensor(self.bbox_coder.pc_range)
        yaw = torch.atan2(at("rot")[:, :1], at("rot")[:, 1:])
        rest = [at("vel")] if "vel" in maps else []
        return torch.cat([centre, at("height"), at("dim").exp(), yaw, *rest], 1), scores, labels


class PETR(Base3DDetector):
    """A query detector."""

    def __init__(self, version="v1", **head):
        super().__init__(version)
        self.pts_bbox_head = PETRHead(version, **head)

    def detections(self, points):
        return self.pts_bbox_head.predict(self.pts_bbox_head(self.features(points)))


class PETRHead(nn.Module):
    """Twenty queries; three layers share one classifier, whose last call counts."""

    def __init__(self, version="v1", is_turned=False, threshold=None):
        super().__init__()
        self.version, self.is_turned = version, is_turned
        self.mix = nn.Linear(ROWS * COLUMNS, 20)
        classifier, regressor = nn.Linear(CHANNELS, 4), nn.Linear(CHANNELS, 10)
        self.cls_branches = nn.ModuleList([classifier] * 3)
        self.reg_branches = nn.ModuleList([regressor] * 3)
        self.bbox_coder = type("NMSFreeCoder", (), {})()
        self.bbox_coder.max_num, self.bbox_coder.score_threshold, self.bbox_coder.pc_range = 12, threshold, RANGE
        self.pc_range = RANGE

    def forward(self, maps):
        queries = self.mix(maps.flatten(2)).transpose(1, 2)
        layers = [queries * scale for scale in (0.5, 0.8, 1.0)]
        classes = [branch(layer) for branch, layer in zip(self.cls_branches, layers, strict=True)]
        boxes = [branch(layer) for branch, layer in zip(self.reg_branches, layers, strict=True)]
        return {"all_cls_scores": torch.stack(classes), "all_bbox_preds": torch.stack(boxes), "enc_cls_scores": None}

    def predict(self, outputs):
        found = []
        for classes, values in zip(outputs["all_cls_scores"][-1], outputs["all_bbox_preds"][-1], strict=True):
            scores, index = classes.sigmoid().flatten().topk(self.bbox_coder.max_num)
            labels, queries = index % 4, index // 4
            cx, cy, w, l, cz, h, sine, cosine, vx, vy = values[queries].unbind(-1)  # noqa: E741
            yaw = torch.atan2(sine, cosine)
            yaw = -yaw - math.pi / 2 if self.is_turned else yaw
            boxes = torch.stack([cx, cy, cz, w.exp(), l.exp(), h.exp(), yaw, vx, vy], -1)
            boxes[:, 2] -= boxes[:, 5] * 0.5
            found.append((boxes_of(self.version, boxes), scores, labels))
        return found


class BEVFusion(Base3DDetector):
    """The project of 1.x; as `TransFusionDetector` the original."""

    def __init__(self, version="v1", **head):
        super().__init__(version)
        if version == "v1":
            self.pts_voxel_layer = self.data_preprocessor._modules.pop("voxel_layer")
        self.bbox_head = TransFusionHead(version, **head)

    def detections(self, points):
        return self.bbox_head.predict(self.bbox_head([self.features(points)], None))


class TransFusionHead(nn.Module):
    """Twelve queries of two decoder layers, all layers' outputs behind one another."""

    def __init__(self, version="v1", nms_type=None):
        super().__init__()
        self.version, self.num_proposals, self.num_classes = version, 12, 3
        self.shared_conv = nn.Conv2d(CHANNELS, 8, 3, padding=1)
        self.heatmap_head = nn.Conv2d(8, 3, 3, padding=1)
        self.decoder = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(2))
        self.prediction_heads = nn.ModuleList(_Queries() for _ in range(2))
        self.bbox_coder = SimpleNamespace(
            pc_range=RANGE[:2], voxel_size=[0.4, 0.4], out_size_factor=4, score_threshold=0.0
        )
        self.test_cfg = Config(nms_type=nms_type, dataset="nuScenes")

    def forward(self, maps, _metas):
        shared = self.shared_conv(maps[0])
        heat = self.heatmap_head(shared).sigmoid().flatten(2)
        top = heat.flatten(1).argsort(dim=-1, descending=True)[:, : self.num_proposals]
        self.query_labels, cells = top // heat.shape[-1], top % heat.shape[-1]
        queries = shared.flatten(2).gather(2, cells[:, None].expand(-1, 8, -1))
        place = torch.stack([cells % COLUMNS, cells // COLUMNS], 1) + 0.5
        layers = []
        for decode, predict in zip(self.decoder, self.prediction_heads, strict=True):
            queries = torch.relu(decode(queries))
            layers.append(predict(queries))
            layers[-1]["center"] = layers[-1]["center"] + place
        found = {name: torch.cat([layer[name] for layer in layers], -1) for name in layers[0]}
        found["query_heatmap_score"] = heat.gather(2, cells[:, None].expand(-1, self.num_classes, -1))
        return ([found],)

    def predict(self, outputs):
        (head,), count = outputs[0], self.num_proposals
        born = nn.functional.one_hot(self.query_labels, self.num_classes).permute(0, 2, 1)
        scores = head["heatmap"][..., -count:].sigmoid() * head["query_heatmap_score"] * born
        centre, dim = head["center"][..., -count:], head["dim"][..., -count:]
        # in place, as the original coder does: whoever kept these tensors without a copy has metres afterwards
        for axis in (0, 1):
            centre[:, axis] = centre[:, axis] * 4 * 0.4 + RANGE[axis]
        dim.copy_(dim.exp())
        height = head["height"][..., -count:] - dim[:, 2:3] * 0.5
        rot = head["rot"][..., -count:]
        yaw = torch.atan2(rot[:, :1], rot[:, 1:])
        boxes = torch.cat([centre, height, dim, yaw, head["vel"][..., -count:]], 1).permute(0, 2, 1)
        best, labels = scores.max(1)
        return [(boxes_of(self.version, boxes[i]), best[i], labels[i].int()) for i in range(len(boxes))]


class _Queries(nn.Module):
    def __init__(self):
        super().__init__()
        for name, width in {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": 3}.items():
            setattr(self, name, nn.Conv1d(8, width, 1))

    def forward(self, queries):
        return {name: layer(queries) for name, layer in self._modules.items()}


def lively(model, seed=0):
    """Give a model random weights under which it finds something."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            fan_in = weights[0].numel() if weights.dim() > 1 else 16
            weights.normal_(0, 0.9 / fan_in**0.5)
    return model.eval()
