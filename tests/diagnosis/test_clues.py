"""What the errors of a code have in common."""

from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.diagnosis import Clues, gather_clues
from mld_pipelines.exceptions import InvalidInputError


@pytest.mark.feature("H28")
def test_clues_count_confusions_predictions_and_labels_per_code() -> None:
    found = gather_clues(
        [0, 0, 0, 0, 2, -1], [3, 3, 5, 6, 1, 9], [7, 7, 7, 1, 0, 8], n_codes=3,
        is_far=[False, False, True, False], is_undecidable=[True, False, False, False],
    )  # fmt: skip
    assert found == (
        Clues(
            n_errors=4, confusion=(3, 7), confusion_share=0.5, sink_share=0.75, n_labels=3, is_far=False,
            is_undecidable=True,
        ),
        Clues(),
        Clues(n_errors=1, confusion=(1, 0), confusion_share=1.0, sink_share=1.0, n_labels=1, is_far=True),
        Clues(n_errors=1, confusion=(9, 8), confusion_share=1.0, sink_share=1.0, n_labels=1),
    )  # fmt: skip


def test_the_order_of_units_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    index, labels, predictions = (rng.integers(low, 4, 80) for low in (-1, 0, 0))
    order = rng.permutation(80)
    flags = np.zeros(5, bool)
    first, second = (
        gather_clues(index[rows], labels[rows], predictions[rows], n_codes=4, is_far=flags, is_undecidable=flags)
        for rows in (slice(None), order)
    )
    assert first == second


@pytest.mark.parametrize(("labels", "flags"), [([1, 2], 2), ([1], 3)])
def test_lengths_have_to_agree(labels: list[int], flags: int) -> None:
    with pytest.raises(InvalidInputError, match="equally long"):
        gather_clues([0], labels, [1], n_codes=1, is_far=[False] * flags, is_undecidable=[False] * flags)
