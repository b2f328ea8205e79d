"""Commit one spool in this process: `python -m mld_pipelines.capture ROOT HOME`."""

from __future__ import annotations

import sys
from pathlib import Path

from mld_pipelines.capture._replay import replay

if __name__ == "__main__":
    replay(sys.argv[1], home=Path(sys.argv[2]))
