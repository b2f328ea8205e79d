"""Log the inferences of a production model, with an error probability for each of them.

Run `python examples/classification_tracing.py` first, in the same folder: it trains the model and makes the result that
is used here. Then `python examples/classification_logging.py`.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from mld_pipelines.evaluator import Evaluator
from mld_pipelines.monitoring import ClassificationLogger, log_labels

# Production model and production data: the digits that the model has never seen
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = torch.nn.Sequential(
    torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
)
model.load_state_dict(torch.load("digits_mlp.pt", weights_only=True))
model.to(device)
model.eval()
digits = load_digits()
images = torch.tensor(digits.data[1200:] / 16.0, dtype=torch.float32)
labels = digits.target[1200:]
production_dataloader = DataLoader(images, batch_size=1)

# Initialize the logger with the newest result of this model
result = Evaluator(model_name="digits_mlp", version_name="v1").list_results()
logger = ClassificationLogger(
    model,
    model_name="digits_mlp",
    version_name="v1",
    result_name=result["result_name"][-1],
)

# Inference in production
request_ids: list[str] = []
for image in production_dataloader:
    image = image.to(device)
    with torch.no_grad():
        predictions = logger(image)
    request_ids += logger.last_request_ids

# The truth about some requests arrives later
receipt = log_labels(request_ids[:50], labels[:50])

# At the end (leaving the process does the same)
logger.close()
print(f"{logger.stats.stored} inferences stored, {receipt.rows} labels")
