"""Log what a 3D detector finds on a drive, without labels, with an error probability for every box.

Run it from the root of a checkout with `python -m examples.detection3d_logging`, after `examples.detection3d_tracing`,
which makes the result that is used here.
"""

import torch

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.monitoring import ObjectDetection3DLogger

# Production model, and the frames of a drive through changing weather
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = drive_model()
model.to(device)
model.eval()
drive = drive_dataset("drive", frames=12)
production_dataloader = (drive[index][0] for index in range(len(drive)))

# Initialize the logger with the newest result of this model
results = Evaluator(model_name="pillars", version_name="v1").list_results()
logger = ObjectDetection3DLogger(model, model_name="pillars", version_name="v1", result_name=results["result_name"][-1])

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
