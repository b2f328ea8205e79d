"""Log what a 3D detector finds on a drive, without labels.

Run it from the root of a checkout with `python -m examples.detection3d_logging`.
"""

import torch

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.monitoring import ObjectDetection3DLogger

# Production model, and the frames of a drive through changing weather
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = drive_model()
model.to(device)
model.eval()
drive = drive_dataset("drive", frames=24)
production_dataloader = (drive[index][0] for index in range(len(drive)))

# Initialize the logger
logger = ObjectDetection3DLogger(model, model_name="pillars", version_name="v1")

# Inference in production
objects = 0
for points in production_dataloader:
    points = points.to(device)
    with torch.no_grad():
        predictions = logger(points)
    objects += len(predictions[0]["scores_3d"])

# At the end (leaving the process does the same)
logger.close()
print(f"{logger.stats.stored} frames stored, {objects} objects found in them")
