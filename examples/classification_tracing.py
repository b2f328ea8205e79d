"""Trace a trained classifier over labelled data, evaluate it and review the result.

Run it with `python examples/classification_tracing.py`. Rows go to the lake that `MLD_API_ENDPOINT` names, else to
`.mld/lake` below the current folder. The weights are kept in `digits_mlp.pt`, for `classification_logging.py`.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from mld_pipelines.evaluator import Evaluator
from mld_pipelines.training import ClassificationTracer

# Prepare model and dataloaders: handwritten digits and a small network
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
labels = torch.tensor(digits.target)
indices = torch.arange(len(labels))
train = TensorDataset(images[:600], labels[:600], indices[:600])
val = TensorDataset(images[600:1200], labels[600:1200], indices[600:1200])

model = torch.nn.Sequential(
    torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(6):
    for image, label, _ in DataLoader(train, batch_size=64, shuffle=True):
        loss = torch.nn.functional.cross_entropy(model(image.to(device)), label.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval()

torch.save(model.state_dict(), "digits_mlp.pt")

# Initialize the tracer
tracer = ClassificationTracer(model, model_name="digits_mlp", version_name="v1")

# Collect data
for dataset_type, dataset in {"train": train, "val": val}.items():
    for image, label, index in DataLoader(dataset, batch_size=64):
        image, label = image.to(device), label.to(device)
        with torch.no_grad():
            _ = tracer(image, label, input_ids=index.cpu().numpy(), dataset_type=dataset_type)

# Wait until everything is stored
receipt = tracer.wait_for_save()
print(f"{receipt.rows} rows stored")

# Run the evaluation
evaluator = Evaluator(model_name="digits_mlp", version_name="v1")
result = evaluator.request_evaluation()

# Review the result
print(result.metrics_summary())
print(result.issue_category_summary())
result.get_summary()
issues = result.get_issues()
print(result.get_view(groupby=["category", "error_code"], adjustby="category"))
print(f"result_name = {result.result_name}, {issues.height} issues")
