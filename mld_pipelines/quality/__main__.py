"""Write the committed suites anew: `python -m mld_pipelines.quality`."""

from __future__ import annotations

import sys

from mld_pipelines.quality import write_suites

if __name__ == "__main__":
    changed = write_suites()
    sys.stdout.write("\n".join(path.name for path in changed) + "\n" if changed else "every suite is current\n")
