"""torchvision's rotated IoU, in an environment and a process of its own.

The torchvision of a package index is linked against a CUDA build of torch and cannot be imported beside the CPU build
that the platform is tested with, so it gets a folder under `build/`. Run as a script, this file is the peer: it reads
one JSON request a line and answers with one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, Self

__all__ = ["Torchvision"]

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench-torchvision"
_INSTALL_SECONDS = 1_200


class Torchvision:
    """The peer process. Boxes are canonical (N, 7) arrays."""

    def __init__(self, process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str], version: str) -> None:
        self._process, self._folder = process, folder
        self.version = version

    @classmethod
    def start(cls, *, may_install: bool) -> Self | None:
        """Return the peer, or None where its environment is missing or cannot be built."""
        python = _environment(may_install=may_install)
        if python is None:
            return None
        command = [str(python), str(Path(__file__).resolve())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        greeting = process.stdout.readline()
        if not greeting:
            process.wait()
            return None
        return cls(process, tempfile.TemporaryDirectory(prefix="mld-bench-"), json.loads(greeting)["version"])

    def load(self, name: str, a: Any, b: Any) -> None:
        """Give the peer two batches under a name."""
        import numpy as np

        path = Path(self._folder.name) / f"{name}.npz"
        np.savez(path, a=a, b=b)
        self._ask(load=name, path=str(path))

    def seconds(self, name: str, *, repeats: int) -> float:
        """Return the seconds of one call, tensors ready, on one thread; the mean of some repeats."""
        return float(self._ask(time=name, repeats=repeats)["seconds"])

    def aligned(self, a: Any, b: Any) -> Any:
        """Return (N,) IoU of each box with its partner."""
        import numpy as np

        self.load("pairs", a, b)
        return np.load(self._ask(iou="pairs", path=str(Path(self._folder.name) / "out.npy"))["path"])

    def close(self) -> None:
        """End the peer."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._folder.cleanup()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _environment(*, may_install: bool) -> Path | None:
    python, done = _FOLDER / "bin" / "python", _FOLDER / "installed"
    if done.exists() or not may_install:
        return python if done.exists() else None
    venv.create(_FOLDER, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "numpy", "torch", "torchvision>=0.28"]
    try:
        subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, stdout=sys.stderr)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"no environment for torchvision: {error}", file=sys.stderr)
        return None
    done.touch()
    return python


def _serve() -> None:
    """Answer requests until the input ends."""
    import time

    import numpy as np
    import torch
    import torchvision

    torch.set_num_threads(1)
    loaded: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torchvision.ops.box_iou(a, b, fmt="cxcywhr")
        return found

    def tensor(boxes: Any) -> torch.Tensor:
        degrees = -np.degrees(boxes[:, 6])  # counter-clockwise in an image, whose y points down
        return torch.from_numpy(np.column_stack((boxes[:, [0, 1, 4, 3]], degrees)).astype(np.float32))

    print(json.dumps({"version": torchvision.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "load" in request:
            with np.load(request["path"]) as arrays:
                loaded[request["load"]] = tensor(arrays["a"]), tensor(arrays["b"])
        elif "time" in request:
            a, b = loaded[request["time"]]
            start = time.perf_counter()
            for _ in range(request["repeats"]):
                iou(a, b)
            answer["seconds"] = (time.perf_counter() - start) / request["repeats"]
        else:
            a, b = loaded[request["iou"]]
            parts = [iou(a[i : i + 32], b[i : i + 32]).diagonal() for i in range(0, len(a), 32)]
            np.save(request["path"], torch.cat(parts).double().numpy())
            answer["path"] = request["path"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
