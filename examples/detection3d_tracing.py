"""Trace a 3D detector over labelled frames, evaluate it and review the result.

Run it from the root of a checkout with `python -m examples.detection3d_tracing`. Rows go to the lake that
`MLD_API_ENDPOINT` names, else to `.mld/lake` below the current folder.
"""

import torch

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.training import ObjectDetection3DTracer

# Prepare model and frames: a small pillar detector, and road scenes seen by a simulated LiDAR
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = drive_model()
model.to(device)
model.eval()
names = ["car", "truck", "pedestrian", "cyclist"]

# Initialize the tracer; it says what it recognised and where each threshold comes from
tracer = ObjectDetection3DTracer(model, model_name="pillars", version_name="v1", class_names=names)
print(f"{tracer.adapter.family}; boxes from a score of {tracer.settings.score_thresh.value}")

# Collect data: frame by frame, as a batch, or as the dict of a code base
dataloader = torch.utils.data.DataLoader(drive_dataset("train", frames=12), batch_size=None)
for points, target, frame_id in dataloader:
    points = points.to(device)
    with torch.no_grad():
        _ = tracer(points, [target], input_ids=[frame_id], dataset_type="train")

frames = drive_dataset("val", frames=12)
for start in range(0, len(frames), 6):
    clouds, targets, frame_ids = zip(*(frames[i] for i in range(start, start + 6)), strict=True)
    with torch.no_grad():
        _ = tracer([cloud.to(device) for cloud in clouds], list(targets), input_ids=frame_ids, dataset_type="val")

# Wait until everything is stored
receipt = tracer.wait_for_save()
print(f"{receipt.rows} frames stored")

# Run the evaluation: boxes are matched to true boxes, and errors get codes, categories and probabilities
evaluator = Evaluator(model_name="pillars", version_name="v1")
result = evaluator.request_evaluation()

# Review the result
print(result.metrics_summary())
print(result.issue_category_summary())
result.get_summary()
issues = result.get_issues()
print(result.get_view(groupby=["category", "error_code"], adjustby="category"))
print(f"result_name = {result.result_name}, {issues.height} issues")
