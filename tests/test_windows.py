"""Which rows are usable, and what their windows hold."""

import numpy as np
import pytest

from models.errors import ModelError
from models.windows import check_panel, gather_windows, labelled_rows, share_of_ups, usable_rows

MASK = np.random.default_rng(1).random((4, 30)) < 0.8


@pytest.mark.parametrize("lookback", [1, 3, 30])
def test_a_row_is_usable_when_every_session_of_its_window_is_valid(lookback: int) -> None:
    expected = [
        [t >= lookback - 1 and all(MASK[s, t - lookback + 1 : t + 1]) for t in range(30)] for s in range(4)
    ]
    assert usable_rows(MASK, lookback).tolist() == expected


def test_a_panel_shorter_than_the_lookback_has_no_usable_row() -> None:
    assert usable_rows(MASK[:, :5], 6).tolist() == np.zeros((4, 5), dtype=bool).tolist()


def test_a_window_ends_at_its_row_and_stays_within_its_symbol() -> None:
    x = np.arange(2 * 6 * 2, dtype=np.float32).reshape(2, 6, 2)
    windows = gather_windows(x, np.array([2, 6 + 5], dtype=np.int32), lookback=3)
    assert np.array_equal(windows, np.stack([x[0, 0:3], x[1, 3:6]]))


def test_labelled_rows_are_the_usable_rows_of_the_range_with_a_label_at_some_horizon() -> None:
    y = np.full((2, 5, 2), np.nan, dtype=np.float32)
    y[0, 1, 0] = y[0, 3] = y[1, 2, 1] = y[1, 3] = 1
    usable = np.ones((2, 5), dtype=bool)
    usable[1, 3] = False
    assert labelled_rows(usable, y, range(2, 5), "train").tolist() == [3, 5 + 2]


def test_a_range_without_labels_is_refused_by_name() -> None:
    y = np.full((1, 9, 1), np.nan, dtype=np.float32)
    with pytest.raises(ModelError, match="the stop range") as refused:
        labelled_rows(np.ones((1, 9), dtype=bool), y, range(4, 7), "stop")
    assert "sessions 4 to 6 of 9" in str(refused.value)


def test_the_share_of_ups_counts_known_labels_only() -> None:
    y = np.array([[[1, 0], [1, np.nan], [0, 1], [0, 0]]], dtype=np.float32)
    shares = share_of_ups(y, np.array([0, 1, 2], dtype=np.int32))
    assert shares.tolist() == [pytest.approx(2 / 3), 0.5]


def test_a_valid_row_that_is_not_finite_is_named() -> None:
    x = np.zeros((2, 4, 3), dtype=np.float32)
    x[1, 2, 0] = np.nan
    mask = np.ones((2, 4), dtype=bool)
    with pytest.raises(ModelError, match="symbol 1, session 2, feature 0"):
        check_panel(x, mask, features=3)
    mask[1, 2] = False
    check_panel(x, mask, features=3)


def test_a_block_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(2, 4, 3\), expected \(2, 4, 5\)"):
        check_panel(np.zeros((2, 4, 3), dtype=np.float32), np.ones((2, 4), dtype=bool), features=5)
