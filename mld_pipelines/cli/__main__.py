"""`python -m mld_pipelines.cli`: the same as `mld`, without a console script."""

from __future__ import annotations

from mld_pipelines.cli import main

if __name__ == "__main__":
    main()
