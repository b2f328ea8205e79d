"""Stand-ins for det3d, the code base of CenterPoint and CenterFormer: the same names, attribute paths and raw shapes.

They follow tianweiy/CenterPoint 3cf7d87 and TuSimple/centerformer 5a949b8: `model(example, return_loss=False)`, boxes
with the velocity before the rotation, which comes last. Suppression is by centre distance.
"""

from __future__ import annotations

import torch
from torch import nn

from tests.support.openpcdet_stubs import CELL, CHANNELS, RANGE, SIDE, EasyDict, far_apart, height_map

TASKS = [["car", "truck"], ["pedestrian"]]
_SIZES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


def _config(**more):
    nms = {"nms_pre_max_size": 200, "nms_post_max_size": 15, "nms_iou_threshold": 0.2}
    return EasyDict(
        post_center_limit_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
        score_threshold=0.3,
        nms=nms,
        pc_range=RANGE[:2],
        out_size_factor=4,
        voxel_size=[CELL / 4, CELL / 4],
        **more,
    )


def boxes_at(cells, at):
    """Return boxes in det3d's order at cells of a map."""
    x = (cells % SIDE + at["reg"][:, 0]) * CELL + RANGE[0]
    y = (torch.div(cells, SIDE, rounding_mode="floor") + at["reg"][:, 1]) * CELL + RANGE[1]
    rot = torch.atan2(at["rot"][:, 0], at["rot"][:, 1])
    velocity = [at["vel"]] if "vel" in at else []
    return torch.cat([x[:, None], y[:, None], at["height"], at["dim"].exp(), *velocity, rot[:, None]], dim=1)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.pc_range = torch.tensor(RANGE)
        self.voxel_size = torch.tensor([CELL / 4, CELL / 4, 4.0])

    def forward(self, points):
        return torch.cat([height_map(one) for one in points])


class CenterHead(nn.Module):
    def __init__(self, tasks=TASKS):
        super().__init__()
        self.num_classes, self.class_names = [len(task) for task in tasks], tasks
        self.shared_conv = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(inplace=True))
        self.tasks = nn.ModuleList(
            nn.ModuleDict({name: nn.Conv2d(CHANNELS, n, 1) for name, n in {**_SIZES, "hm": len(task)}.items()})
            for task in tasks
        )

    def forward(self, x):
        x = self.shared_conv(x)
        return [{name: layer(x) for name, layer in task.items()} for task in self.tasks], x

    def predict(self, example, preds_dicts, test_cfg):
        for task in preds_dicts:  # in place, as the original
            for name in task:
                task[name] = task[name].permute(0, 2, 3, 1).contiguous()
        found = []
        for i in range(len(preds_dicts[0]["hm"])):
            parts, first = [], 0
            for task in preds_dicts:
                at = {name: values[i].flatten(0, 1) for name, values in task.items()}
                parts.append(self._task(at, first, test_cfg))
                first += at["hm"].shape[1]
            boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
            meta = example["metadata"][i] if example.get("metadata") else None
            found.append({"box3d_lidar": boxes, "scores": scores, "label_preds": labels, "metadata": meta})
        return found

    def _task(self, at, first, config):
        scores, labels = at["hm"].sigmoid().max(dim=-1)
        boxes = boxes_at(torch.arange(SIDE * SIDE), at)
        kept = (scores > config.score_threshold).nonzero()[:, 0]
        kept = kept[far_apart(boxes[kept], scores[kept], most=config.nms.nms_post_max_size)]
        return boxes[kept], scores[kept], labels[kept] + first


class SingleStageDetector(nn.Module):
    __module__ = "det3d.models.detectors.single_stage"

    def __init__(self, head):
        super().__init__()
        self.reader, self.backbone = Reader(), nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.neck, self.bbox_head = nn.ReLU(), head
        self.test_cfg, self.train_cfg = _config(), None

    def features(self, example):
        return self.neck(self.backbone(self.reader(example["points"])))


class VoxelNet(SingleStageDetector):
    __module__ = "det3d.models.detectors.voxelnet"

    def __init__(self):
        super().__init__(CenterHead())

    def forward(self, example, return_loss=True, **_kwargs):
        if return_loss:
            raise ValueError("losses need targets")
        maps, _ = self.bbox_head(self.features(example))
        return self.bbox_head.predict(example, maps, self.test_cfg)


class RoIHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared_fc_layer = nn.Sequential(nn.Conv1d(9, 5, 1), nn.ReLU(inplace=True))
        self.cls_layers, self.reg_layers = nn.Conv1d(5, 1, 1), nn.Conv1d(5, 9, 1)

    def forward(self, batch_dict, training=True):
        rois = batch_dict["rois"]
        shared = self.shared_fc_layer(rois.reshape(-1, 9, 1))
        change = 0.05 * self.reg_layers(shared).reshape(rois.shape).tanh()
        batch_dict["batch_box_preds"] = rois + change
        batch_dict["batch_cls_preds"] = self.cls_layers(shared).reshape(*rois.shape[:2], 1)
        return batch_dict


class TwoStageDetector(nn.Module):
    """Pads the first stage's boxes with class 0 and moves their rotation to place 6."""

    __module__ = "det3d.models.detectors.two_stage"
    MOST = 40

    def __init__(self):
        super().__init__()
        self.single_det = VoxelNet()
        self.bbox_head = self.single_det.bbox_head
        self.second_stage, self.roi_head = nn.ModuleList(), RoIHead()

    def forward(self, example, return_loss=True, **_kwargs):
        first = self.single_det(example, return_loss=False)
        example["rois"] = torch.zeros(len(first), self.MOST, 9)
        example["roi_scores"] = torch.zeros(len(first), self.MOST)
        example["roi_labels"] = torch.zeros(len(first), self.MOST, dtype=torch.long)
        for i, found in enumerate(first):
            count = len(found["scores"])
            example["rois"][i, :count] = found["box3d_lidar"][:, [0, 1, 2, 3, 4, 5, 8, 6, 7]]
            example["roi_labels"][i, :count] = found["label_preds"] + 1
            example["roi_scores"][i, :count] = found["scores"]
        batch = self.roi_head(example, training=False)
        return [self._final(batch, i) for i in range(len(first))]

    def _final(self, batch, i):
        kept = batch["roi_labels"][i] != 0
        scores = torch.sqrt(torch.sigmoid(batch["batch_cls_preds"][i]).reshape(-1) * batch["roi_scores"][i])
        boxes = batch["batch_box_preds"][i][:, [0, 1, 2, 3, 4, 5, 7, 8, 6]]
        labels = batch["roi_labels"][i][kept] - 1
        return {"box3d_lidar": boxes[kept], "scores": scores[kept], "label_preds": labels}


class RPN_transformer(nn.Module):  # noqa: N801 - the original's name
    def __init__(self, tasks, queries=60):
        super().__init__()
        self.score_threshold, self.obj_num = 0.3, queries
        self.hm_heads = nn.ModuleList(nn.Conv2d(CHANNELS, len(task), 1) for task in tasks)

    def forward(self, x):
        x, found = torch.relu(x), []
        for head in self.hm_heads:
            heat = head(x).sigmoid()
            scores, labels = heat.flatten(2).max(1)
            order = scores.sort(1, descending=True)[1][:, : self.obj_num]
            scores = scores.gather(1, order)
            features = x.flatten(2).gather(2, order[:, None].expand(-1, CHANNELS, -1))
            kept = scores > self.score_threshold
            found.append(
                {"hm": heat, "scores": scores, "labels": labels.gather(1, order), "order": order, "mask": kept}
                | {"ct_feat": features}
            )
        return found


class CenterHeadIoU_1d(nn.Module):  # noqa: N801 - the original's name
    def __init__(self, tasks=TASKS):
        super().__init__()
        self.num_classes, self.use_iou_loss, self.iou_factor = [len(task) for task in tasks], True, [1, 4]
        self.shared_conv = nn.Conv1d(CHANNELS, CHANNELS, 1)
        self.tasks = nn.ModuleList(
            nn.ModuleDict({name: nn.Conv1d(CHANNELS, n, 1) for name, n in {**_SIZES, "iou": 1}.items()}) for _ in tasks
        )

    def forward(self, x):
        for task, layers in zip(x, self.tasks, strict=True):
            shared = self.shared_conv(task["ct_feat"])
            task.update({name: layer(shared) for name, layer in layers.items()})
        return x

    def predict(self, example, preds_dicts, test_cfg):
        found = []
        for i in range(len(preds_dicts[0]["scores"])):
            parts, first = [], 0
            for task in preds_dicts:
                at = {name: task[name][i].T for name in (*_SIZES, "iou")}
                labels = task["labels"][i]
                factor = torch.tensor(self.iou_factor)[labels]
                scores = task["scores"][i] * ((at["iou"][:, 0] + 1) * 0.5).clamp(0, 1) ** factor
                boxes, kept = boxes_at(task["order"][i], at), task["mask"][i].nonzero()[:, 0]
                kept = kept[far_apart(boxes[kept], scores[kept], most=test_cfg.nms.nms_post_max_size)]
                parts.append((boxes[kept], scores[kept], labels[kept] + first))
                first += task["hm"].shape[1]
            boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
            found.append({"box3d_lidar": boxes, "scores": scores, "label_preds": labels})
        return found


class VoxelNet_dynamic(SingleStageDetector):  # noqa: N801 - the original's name
    __module__ = "det3d.models.detectors.voxelnet_dynamic"

    def __init__(self):
        super().__init__(CenterHeadIoU_1d())
        self.neck = RPN_transformer(TASKS)

    def forward(self, example, return_loss=True, **_kwargs):
        return self.bbox_head.predict(example, self.bbox_head(self.features(example)), self.test_cfg)
