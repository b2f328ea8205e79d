"""`python -m examples.demo`: run the demo and print what it found."""

from __future__ import annotations

import numpy as np
import torch

from examples.demo.digits import CLASS_NAMES, load_digits, train
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.training import ClassificationTracer


def main() -> None:
    """Trace and evaluate a small network."""
    train_data, val_data, _ = load_digits()
    model = train(train_data)
    tracer = ClassificationTracer(model, "digits", "v1", class_names=CLASS_NAMES)
    for name, data in (("train", train_data), ("val", val_data)):
        for rows in np.array_split(np.arange(len(data.labels)), 10):
            with torch.no_grad():
                tracer(torch.from_numpy(data.images[rows]), data.labels[rows], data.ids[rows], name)
    print(tracer.wait_for_save())
    Evaluator("digits", "v1").request_evaluation().get_summary()


if __name__ == "__main__":
    main()
