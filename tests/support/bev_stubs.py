"""Stand-ins for code bases around mmdet3d 0.x that need CUDA: names, attribute paths and raw shapes of the originals.

They follow mit-han-lab/bevfusion 326653d, fundamentalvision/BEVFormer 66b65f3, exiawsh/StreamPETR 95f6470,
HuangJunJie2017/BEVDet 1bacecb and zhulf0804/PointPillars 620e6b0.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tests.support.openpcdet_stubs import CELL, CHANNELS, RANGE, SIDE, EasyDict, far_apart, height_map

CLASSES = 3


class _Boxes:
    def __init__(self, tensor, box_dim=9):
        self.tensor = tensor.clone()

    def to(self, _device):
        return self


class OldBoxes(_Boxes):
    """Of 0.x: no YAW_AXIS."""


class NewBoxes(_Boxes):
    """Of the release candidates of 1.0."""

    YAW_AXIS = 2


for kind in (OldBoxes, NewBoxes):
    kind.__name__ = kind.__qualname__ = "LiDARInstance3DBoxes"


class Base3DFusionModel(nn.Module):
    __module__ = "mmdet3d.models.fusion_models.base"


class PredictionHead(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": CLASSES}
        self.layers = nn.ModuleDict({name: nn.Conv1d(CHANNELS, n, 1) for name, n in sizes.items()})

    def forward(self, x):
        return {name: layer(x) for name, layer in self.layers.items()}


class TransFusionHead(nn.Module):
    """Two decoder layers with auxiliary outputs behind one another; x runs along the rows of the map."""

    def __init__(self, proposals=20):
        super().__init__()
        self.num_proposals, self.num_classes = proposals, CLASSES
        self.test_cfg = EasyDict(nms_type=None, dataset="Other", grid_size=[128, 128, 1], out_size_factor=4)
        self.bbox_coder = EasyDict(
            pc_range=RANGE[:2], out_size_factor=4, voxel_size=[CELL / 4, CELL / 4], score_threshold=0.0
        )
        self.shared_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.heatmap_head = nn.Conv2d(CHANNELS, CLASSES, 1)
        self.prediction_heads = nn.ModuleList([PredictionHead(), PredictionHead()])

    def forward(self, feats, metas):
        shared = self.shared_conv(feats)
        heat = self.heatmap_head(shared).sigmoid().flatten(2)
        born = heat.flatten(1).argsort(dim=-1, descending=True)[:, : self.num_proposals]
        cells = born % heat.shape[2]
        self.query_labels = torch.div(born, heat.shape[2], rounding_mode="floor")
        place = torch.stack([torch.div(cells, SIDE, rounding_mode="floor"), cells % SIDE], dim=1) + 0.5
        query, layers = shared.flatten(2).gather(2, cells[:, None].expand(-1, CHANNELS, -1)), []
        for head in self.prediction_heads:
            query = query + 0.1
            found = head(query)
            found["center"] = found["center"] + place
            layers.append(found)
        joined = {name: torch.cat([one[name] for one in layers], dim=-1) for name in layers[0]}
        joined["query_heatmap_score"] = heat.gather(2, cells[:, None].expand(-1, CLASSES, -1))
        joined["dense_heatmap"] = heat
        return ([joined],)

    def get_bboxes(self, preds_dicts, metas):
        found = preds_dicts[0][0]
        last = {name: found[name][..., -self.num_proposals :] for name in ("center", "height", "dim", "rot", "vel")}
        one_hot = nn.functional.one_hot(self.query_labels, CLASSES).transpose(1, 2)
        scores = found["heatmap"][..., -self.num_proposals :].sigmoid() * found["query_heatmap_score"] * one_hot
        last["center"][:] = last["center"] * CELL + torch.tensor(RANGE[:2])[:, None]  # in place, as the original
        last["dim"][:] = last["dim"].exp()
        bottom = last["height"] - last["dim"][:, 2:3] * 0.5
        yaw = torch.atan2(last["rot"][:, 0:1], last["rot"][:, 1:2])
        boxes = torch.cat([last["center"], bottom, last["dim"], yaw, last["vel"]], dim=1).transpose(1, 2)
        best = scores.max(1)
        return [[metas[0]["box_type_3d"](boxes[0]), best.values[0], best.indices[0].int()]]


class Voxelize(nn.Module):
    point_cloud_range = RANGE


class BEVFusion(Base3DFusionModel):
    """LiDAR alone."""

    __module__ = "mmdet3d.models.fusion_models.bevfusion"

    def __init__(self):
        super().__init__()
        backbone = nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.encoders = nn.ModuleDict({"lidar": nn.ModuleDict({"voxelize": Voxelize(), "backbone": backbone})})
        self.fuser, self.decoder = None, nn.ModuleDict({"backbone": nn.ReLU(), "neck": nn.Identity()})
        self.heads = nn.ModuleDict({"object": TransFusionHead()})

    def forward(
        self, img, points, camera2ego, lidar2ego, lidar2camera, lidar2image, camera_intrinsics, camera2lidar,
        img_aug_matrix, lidar_aug_matrix, metas, depths, radar=None, **_kwargs,
    ):  # fmt: skip
        maps = torch.cat([height_map(one).transpose(2, 3) for one in points])
        x = self.decoder["backbone"](self.encoders["lidar"]["backbone"](maps))
        head = self.heads["object"]
        found = head.get_bboxes(head(x, metas), metas)
        return [{"boxes_3d": boxes.to("cpu"), "scores_3d": s, "labels_3d": labels} for boxes, s, labels in found]


class Base3DDetector(nn.Module):
    __module__ = "mmdet3d.models.detectors.base"


class MVXTwoStageDetector(Base3DDetector):
    __module__ = "mmdet3d.models.detectors.mvx_two_stage"

    def forward(self, return_loss=True, **kwargs):
        return self.forward_train(**kwargs) if return_loss else self.forward_test(**kwargs)


class NMSFreeCoder:
    def __init__(self, most, score_threshold=None):
        self.pc_range, self.max_num, self.score_threshold, self.num_classes = RANGE, most, score_threshold, CLASSES
        self.post_center_range = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]


class _QueryHead(nn.Module):
    """What both query heads share: one classifier for all layers, and a top-k over queries and classes."""

    LAYERS, QUERIES, PLACES = 2, 30, (0, 1, 4, 2, 3, 5)

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(self.QUERIES, CHANNELS))
        branch = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.ReLU(inplace=True), nn.Linear(CHANNELS, CLASSES))
        self.cls_branches = nn.ModuleList([branch for _ in range(self.LAYERS)])
        self.reg_branches = nn.ModuleList([nn.Linear(CHANNELS, 10) for _ in range(self.LAYERS)])
        self.bbox_coder = NMSFreeCoder(most=25)

    def outputs(self, images):
        shift = images.flatten(1).mean(1)[:, None, None]
        classes, boxes = [], []
        for layer in range(self.LAYERS):
            state = self.query[None] + shift + 0.1 * layer
            values = self.reg_branches[layer](state)
            centre = values[..., list(self.PLACES[:3])].sigmoid()
            low, high = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
            values[..., list(self.PLACES[:3])] = centre * (high - low) + low
            classes.append(self.cls_branches[layer](state))
            boxes.append(values)
        return {"all_cls_scores": torch.stack(classes), "all_bbox_preds": torch.stack(boxes)}

    def get_bboxes(self, preds_dicts, img_metas):
        found = []
        for i, meta in enumerate(img_metas):
            best = preds_dicts["all_cls_scores"][-1][i].sigmoid().flatten().topk(self.bbox_coder.max_num)
            query = torch.div(best.indices, CLASSES, rounding_mode="floor")
            values = preds_dicts["all_bbox_preds"][-1][i][query]
            x, y, z, first, second, height = (values[:, place : place + 1] for place in self.PLACES)
            yaw = torch.atan2(values[:, 6:7], values[:, 7:8])
            z = z - height.exp() * 0.5
            boxes = torch.cat([x, y, z, first.exp(), second.exp(), height.exp(), yaw, values[:, 8:10]], dim=1)
            inside = (boxes[:, :3].abs() <= 61.2).all(1)
            found.append((meta["box_type_3d"](boxes[inside]), best.values[inside], (best.indices % CLASSES)[inside]))
        return found


class BEVFormerHead(_QueryHead):
    """cx, cy, w, l, cz, h, sine, cosine, vx, vy."""

    def __init__(self):
        super().__init__()
        self.pc_range = self.bbox_coder.pc_range

    def forward(self, mlvl_feats, img_metas, prev_bev=None, only_bev=False):
        return {"bev_embed": torch.zeros(SIDE * SIDE, len(mlvl_feats), CHANNELS), **self.outputs(mlvl_feats)}


class BEVFormer(MVXTwoStageDetector):
    __module__ = "projects.mmdet3d_plugin.bevformer.detectors.bevformer"
    BOXES = OldBoxes

    def __init__(self):
        super().__init__()
        self.pts_bbox_head, self.video_test_mode = BEVFormerHead(), True
        self.prev_frame_info = {"prev_bev": None, "scene_token": None, "prev_pos": 0, "prev_angle": 0}

    def forward_test(self, img_metas, img=None, **_kwargs):
        metas, images = img_metas[0], img[0]
        metas[0]["can_bus"][:3] = 0  # in place, as the original
        if images.dim() == 5 and images.shape[0] == 1:
            images.squeeze_()
            images = images[None]
        outputs = self.pts_bbox_head(images, metas)
        return [
            {"pts_bbox": {"boxes_3d": boxes.to("cpu"), "scores_3d": scores, "labels_3d": labels}}
            for boxes, scores, labels in self.pts_bbox_head.get_bboxes(outputs, metas)
        ]


class StreamPETRHead(_QueryHead):
    """cx, cy, cz, l, w, h, sine, cosine, vx, vy."""

    PLACES = (0, 1, 2, 3, 4, 5)

    def __init__(self):
        super().__init__()
        self.pc_range = nn.Parameter(torch.tensor(RANGE), requires_grad=False)

    def forward(self, memory_center, img_metas, topk_indexes=None, **data):
        return {**self.outputs(data["img_feats"]), "dn_mask_dict": None}


class Petr3D(MVXTwoStageDetector):
    """One frame per call; `rescale` has no default."""

    __module__ = "projects.mmdet3d_plugin.models.detectors.petr3d"

    def __init__(self):
        super().__init__()
        self.pts_bbox_head = StreamPETRHead()
        self.prev_scene_token = None

    def forward_test(self, img_metas, rescale, **data):
        for name in data:
            data[name] = data[name][0] if name == "img" else data[name][0][0].unsqueeze(0)
        assert data["lidar2img"].shape == (1, 6, 4, 4)
        outputs = self.pts_bbox_head(None, img_metas[0], None, img_feats=data["img"])
        return [
            {"pts_bbox": {"boxes_3d": boxes.to("cpu"), "scores_3d": scores, "labels_3d": labels}}
            for boxes, scores, labels in self.pts_bbox_head.get_bboxes(outputs, img_metas[0])
        ]


def meta(boxes):
    return {"box_type_3d": boxes, "scene_token": "s", "can_bus": torch.ones(18), "lidar2img": [torch.eye(4)] * 6}


class Anchors:
    def __init__(self):
        self.ranges = [[*RANGE[:2], z, *RANGE[3:5], z] for z in (-0.6, -0.6, -1.78)]
        self.sizes = [[0.6, 0.8, 1.73], [0.6, 1.76, 1.73], [1.6, 3.9, 1.56]]
        self.rotations = [0, 1.57]

    def all(self):
        """Return anchors (y, x, class, rotation, 7)."""
        rows = torch.zeros(SIDE, SIDE, 3, 2, 7)
        step = (torch.arange(SIDE) + 0.5) * CELL
        for kind, (area, size) in enumerate(zip(self.ranges, self.sizes, strict=True)):
            for turn, angle in enumerate(self.rotations):
                rows[:, :, kind, turn, 0] = step[None, :] + area[0]
                rows[:, :, kind, turn, 1] = step[:, None] + area[1]
                rows[:, :, kind, turn, 2:] = torch.tensor([area[2], *size, angle])
        return rows


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_cls = nn.Conv2d(CHANNELS, 6 * CLASSES, 1)
        self.conv_reg = nn.Conv2d(CHANNELS, 6 * 7, 1)
        self.conv_dir_cls = nn.Conv2d(CHANNELS, 6 * 2, 1)

    def forward(self, x):
        return self.conv_cls(x), self.conv_reg(x), self.conv_dir_cls(x)


class PillarLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.voxel_layer = nn.Module()
        self.voxel_layer.point_cloud_range = RANGE


class PointPillars(nn.Module):
    """zhulf0804's: arrays out, three empty lists for a frame without detections."""

    __module__ = "pointpillars.model.pointpillars"

    def __init__(self):
        super().__init__()
        self.nclasses, self.nms_pre, self.nms_thr, self.score_thr, self.max_num = CLASSES, 100, 0.01, 0.1, 50
        self.pillar_layer, self.pillar_encoder = PillarLayer(), nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.backbone, self.neck, self.head = nn.ReLU(), nn.Identity(), Head()
        self.anchors_generator = Anchors()

    def forward(self, batched_pts, mode="test"):
        x = self.neck(self.backbone(self.pillar_encoder(torch.cat([height_map(one) for one in batched_pts]))))
        outputs = self.head(x)
        return [self._frame(*(one[i] for one in outputs)) for i in range(len(batched_pts))]

    def _frame(self, classes, deltas, directions):
        classes, deltas, turned = (
            one.permute(1, 2, 0).reshape(-1, n) for one, n in ((classes, CLASSES), (deltas, 7), (directions, 2))
        )
        scores, anchors = classes.sigmoid(), self.anchors_generator.all().reshape(-1, 7)
        best = scores.max(1).values.topk(self.nms_pre).indices
        a, d, turned, scores = anchors[best], deltas[best], turned[best].argmax(1), scores[best]
        diagonal = torch.sqrt(a[:, 3] ** 2 + a[:, 4] ** 2)
        size = a[:, 3:6] * d[:, 3:6].exp()
        z = d[:, 2] * a[:, 5] + a[:, 2] + a[:, 5] / 2 - size[:, 2] / 2
        x, y, yaw = d[:, 0] * diagonal + a[:, 0], d[:, 1] * diagonal + a[:, 1], a[:, 6] + d[:, 6]
        yaw = yaw - torch.floor(yaw / math.pi + 1) * math.pi + (1 - turned) * math.pi
        boxes = torch.cat([x[:, None], y[:, None], z[:, None], size, yaw[:, None]], dim=1)
        found = []
        for label in range(CLASSES):
            kept = (scores[:, label] > self.score_thr).nonzero()[:, 0]
            kept = kept[far_apart(boxes[kept], scores[kept, label], most=self.max_num // CLASSES)]
            found.append((boxes[kept], torch.full((len(kept),), label), scores[kept, label]))
        boxes, labels, scores = (torch.cat(column) for column in zip(*found, strict=True))
        if len(boxes) == 0:
            return [], [], []
        return {"lidar_bboxes": boxes.detach().numpy(), "labels": labels.numpy(), "scores": scores.detach().numpy()}


class CenterHead(nn.Module):
    """BEVDet's: mmdet3d 0.17 with suppression settings per task and `nms_rescale_factor`."""

    def __init__(self):
        super().__init__()
        self.num_classes, self.norm_bbox = [2, 1], True
        self.test_cfg = EasyDict(
            score_threshold=0.3, nms_type=["rotate", "circle"], nms_thr=[0.2, 0.5], post_max_size=20
        )
        self.test_cfg["nms_rescale_factor"] = [1.0, [4.5]]
        self.bbox_coder = EasyDict(
            pc_range=RANGE[:2],
            out_size_factor=4,
            voxel_size=[CELL / 4] * 2,
            max_num=60,
            score_threshold=0.1,
            code_size=9,
        )
        sizes = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
        self.shared_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.task_heads = nn.ModuleList(
            nn.ModuleDict({name: nn.Conv2d(CHANNELS, n, 1) for name, n in {**sizes, "heatmap": count}.items()})
            for count in self.num_classes
        )

    def forward(self, feats):
        shared = self.shared_conv(feats[0])
        return tuple([{name: layer(shared) for name, layer in task.items()}] for task in self.task_heads)

    def get_bboxes(self, preds_dicts, img_metas):
        return [self._frame([task[0] for task in preds_dicts], i, meta) for i, meta in enumerate(img_metas)]

    def _frame(self, tasks, i, meta):
        parts, first = [], 0
        for maps in tasks:
            best = maps["heatmap"][i].sigmoid().flatten().topk(self.bbox_coder.max_num)
            cells = best.indices % (SIDE * SIDE)
            at = {name: values[i].flatten(1)[:, cells].T for name, values in maps.items()}
            x = (cells % SIDE + at["reg"][:, 0]) * CELL + RANGE[0]
            y = (torch.div(cells, SIDE, rounding_mode="floor") + at["reg"][:, 1]) * CELL + RANGE[1]
            yaw, size = torch.atan2(at["rot"][:, 0], at["rot"][:, 1]), at["dim"].exp()
            boxes = torch.cat([x[:, None], y[:, None], at["height"], size, yaw[:, None], at["vel"]], dim=1)
            labels = torch.div(best.indices, SIDE * SIDE, rounding_mode="floor") + first
            kept = (best.values >= self.test_cfg.score_threshold).nonzero()[:, 0]
            kept = kept[far_apart(boxes[kept], best.values[kept], most=self.test_cfg.post_max_size)]
            parts.append((boxes[kept], best.values[kept], labels[kept].int()))
            first += maps["heatmap"].shape[1]
        boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        boxes[:, 2] = boxes[:, 2] - boxes[:, 5] * 0.5
        return meta["box_type_3d"](boxes), scores, labels


class CenterPoint(MVXTwoStageDetector):
    __module__ = "mmdet3d.models.detectors.centerpoint"


class BEVDet(CenterPoint):
    """`img_inputs` are images and five calibration tensors; the range is the view transformer's."""

    __module__ = "mmdet3d.models.detectors.bevdet"

    def __init__(self):
        super().__init__()
        self.img_view_transformer = nn.Module()
        self.img_view_transformer.grid_config = {"xbound": [0.0, 32.0, 1.0], "ybound": [-16.0, 16.0, 1.0]}
        self.img_view_transformer.grid_config |= {"zbound": [-3.0, 1.0, 4.0], "dbound": [1.0, 60.0, 1.0]}
        self.img_bev_encoder_neck = nn.Conv2d(3, CHANNELS, 1)
        self.pts_bbox_head = CenterHead()

    def forward_test(self, points=None, img_metas=None, img_inputs=None, **_kwargs):
        if len(img_inputs) != len(img_metas):
            raise ValueError(f"num of augmentations ({len(img_inputs)}) != num of image meta ({len(img_metas)})")
        images, rots = img_inputs[0][:2]
        assert images.dim() == 5
        assert rots.shape[-2:] == (3, 3)
        bev = nn.functional.interpolate(images.mean(1), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        outputs = self.pts_bbox_head([self.img_bev_encoder_neck(bev)])
        return [
            {"pts_bbox": {"boxes_3d": boxes.to("cpu"), "scores_3d": scores, "labels_3d": labels}}
            for boxes, scores, labels in self.pts_bbox_head.get_bboxes(outputs, img_metas[0])
        ]


class BEVDetSequentialES(BEVDet):
    """BEVDet4D: two images per camera, one after the other."""
