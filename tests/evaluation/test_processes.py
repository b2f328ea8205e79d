from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from mld_pipelines.evaluation import list_results, load_result
from tests.support.traced import MODEL, write_trace

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake

EVALUATE = """
from mld_pipelines.evaluator import Evaluator
for _ in range(2):
    print(Evaluator("toy", "v1").request_evaluation().result_name)
"""


def test_processes_that_evaluate_at_once_get_names_of_their_own(lake: Lake) -> None:
    for dataset in ("train", "val"):
        write_trace(lake, dataset, 120)
    environment = {**os.environ, "MLD_API_ENDPOINT": lake.root}
    processes = [
        subprocess.Popen([sys.executable, "-c", EVALUATE], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    names = [name for process in processes for name in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(names) == sorted(list_results(lake, MODEL)["result_name"])
    assert sorted(int(name.split("_v")[-1].split("_")[0]) for name in names) == [1, 2, 3, 4, 5, 6]
    assert {load_result(lake, name).units().collect().height for name in names} == {240}
