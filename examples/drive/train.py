"""Train the detector that the repository ships, and check what it can do.

* `python -m examples.drive.train` writes the weights and the recipe beside them;
* `--again` trains once more from another initialisation and adds its numbers to the recipe (weights in `build/drive`);
* `--shuffled` does so with the targets of other frames: what remains is what the streets alone give away.

Every step sees new frames (13 ms of CPU each, against 90 ms of training), so nothing can be learned by heart and
nothing needs to be stored.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from examples.drive.frames import single_frames
from examples.drive.model import WEIGHTS, PillarDetector, save
from examples.drive.score import average_precision
from examples.drive.shapes import CLASS_NAMES
from examples.drive.targets import loss_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.drive.frames import Frame

__all__ = ["Recipe", "main", "train"]

RECIPE_PATH = WEIGHTS.with_name("recipe.json")
SCRATCH = WEIGHTS.parents[3] / "build" / "drive"
"""Where the weights of the other runs go."""
HELD_OUT_FIRST = 1_000_000
"""Number of the first held-out frame of the training seed: far beyond what training reaches."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        seed: Of initialisation.
        generator_seed: Of the scenes.
        second_generator_seed: Of the second set of held-out scenes.
        frames: Frames seen in training, each once.
        batch: Frames per step; a multiple of four holds every kind of street.
        learning_rate: Highest, of a one-cycle schedule for AdamW.
        weight_decay: Of AdamW.
        held_out: Frames of each held-out set.
    """

    seed: int = 0
    generator_seed: int = 20260201
    second_generator_seed: int = 7
    frames: int = 4800
    batch: int = 4
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    held_out: int = 120


def train(recipe: Recipe, *, shuffled: bool = False, progress: Any = print) -> PillarDetector:
    """Return a trained detector in eval mode; with one thread a machine gives the same weights every time.

    Args:
        recipe: What to do.
        shuffled: Whether every frame gets the targets of the next one in its batch.
        progress: Called with a line now and then.
    """
    torch.manual_seed(recipe.seed)
    model = PillarDetector(CLASS_NAMES).train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    steps = recipe.frames // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.3)
    seen = single_frames(recipe.frames, recipe.generator_seed)
    recent: list[float] = []
    for step, frames in enumerate(_batches(seen, recipe.batch)):
        targets = targets_of(frames[1:] + frames[:1] if shuffled else frames, len(CLASS_NAMES))
        loss = loss_of(model.maps([torch.from_numpy(frame.points) for frame in frames]), targets)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            progress(f"step {step + 1} of {steps}, loss {np.mean(recent):.3f}, {time.process_time():.0f} s of CPU")
            recent.clear()
    return model.eval()


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []


def checked(model: PillarDetector, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Return the AP at 2 m of every class on held-out scenes of both generator seeds."""
    first = single_frames(recipe.held_out, recipe.generator_seed, first=HELD_OUT_FIRST)
    second = single_frames(recipe.held_out, recipe.second_generator_seed)
    return {
        "held_out": average_precision(model, first, class_names=CLASS_NAMES),
        "second_seed": average_precision(model, second, class_names=CLASS_NAMES),
    }


def main() -> None:
    """Train, check, and write what is to be kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="another initialisation; adds numbers, keeps the weights")
    parser.add_argument("--shuffled", action="store_true", help="targets of other frames; adds numbers only")
    parser.add_argument("--frames", type=int, default=Recipe().frames, help="frames seen in training")
    arguments = parser.parse_args()
    recipe = Recipe(frames=arguments.frames)
    name = "shuffled" if arguments.shuffled else "again" if arguments.again else "shipped"
    torch.set_num_threads(1)
    started = time.process_time()
    used = replace(recipe, seed=recipe.seed + arguments.again)
    model = train(used, shuffled=arguments.shuffled, progress=lambda line: print(line, flush=True))
    save(model, WEIGHTS if name == "shipped" else SCRATCH / f"{name}.safetensors")
    minutes = (time.process_time() - started) / 60.0
    run = {"seed": used.seed, "frames": used.frames, "cpu_minutes": round(minutes, 1), "ap_2m": checked(model, recipe)}
    fresh: dict[str, Any] = {"recipe": asdict(recipe), "runs": {}}
    document = fresh if name == "shipped" else json.loads(RECIPE_PATH.read_text())
    document["runs"][name] = run
    RECIPE_PATH.parent.mkdir(parents=True, exist_ok=True)
    RECIPE_PATH.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(run, indent=2))


if __name__ == "__main__":
    main()
