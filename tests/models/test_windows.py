"""Which rows are usable, and what their windows hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.windows import (
    check_panel,
    closed_up,
    cut_into_chunks,
    example_spans,
    gather_windows,
    labelled_rows,
    share_of_ups,
    usable_rows,
)

MASK = np.random.default_rng(1).random((4, 30)) < 0.8


@pytest.mark.parametrize("lookback", [1, 3, 30])
def test_a_row_is_usable_when_every_session_of_its_window_is_valid(lookback: int) -> None:
    expected = [
        [t >= lookback - 1 and all(MASK[s, t - lookback + 1 : t + 1]) for t in range(30)] for s in range(4)
    ]
    assert usable_rows(MASK, lookback, "windowed").tolist() == expected


def test_a_panel_shorter_than_the_lookback_has_no_usable_row() -> None:
    assert usable_rows(MASK[:, :5], 6, "windowed").tolist() == np.zeros((4, 5), dtype=bool).tolist()


def test_in_sequence_mode_a_row_needs_valid_sessions_behind_it_wherever_they_lie() -> None:
    expected = [[bool(MASK[s, t]) and MASK[s, : t + 1].sum() >= 5 for t in range(30)] for s in range(4)]
    assert usable_rows(MASK, 5, "sequence").tolist() == expected


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


def test_windows_are_found_again_in_the_closed_up_order() -> None:
    rows = closed_up(usable_rows(MASK, 3, "windowed"))
    order, spans = closed_up(MASK), example_spans(MASK, rows, 3, joined=False)
    assert [order[first:stop].tolist() for first, stop in spans] == [[r - 2, r - 1, r] for r in rows]


def test_a_joined_span_reaches_from_the_run_in_of_its_first_label_to_its_last_label() -> None:
    usable = usable_rows(MASK, 4, "sequence")
    usable[:, :10] = usable[:, 25:] = False
    rows, order = closed_up(usable), closed_up(MASK)
    for symbol, (first, stop) in enumerate(example_spans(MASK, rows, 4, joined=True)):
        read, own = order[first:stop], rows[rows // 30 == symbol]
        assert (read // 30 == symbol).all()
        assert MASK.reshape(-1)[read].all()
        assert read[3:].tolist() == own.tolist()


@settings(max_examples=200)
@given(
    lookback=st.integers(1, 6),
    more=st.integers(0, 9),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    data=st.data(),
)
def test_every_label_is_carried_by_exactly_one_chunk_that_stays_inside_its_span(
    lookback: int, more: int, lengths: list[int], data: st.DataObject
) -> None:
    stops = np.cumsum([lookback + length for length in lengths])
    spans = np.stack([stops - [lookback + length for length in lengths], stops], axis=1).astype(np.int32)
    shift = np.array([data.draw(st.integers(0, more)) for _ in lengths])
    chunks = cut_into_chunks(spans, lookback + more, lookback, shift)
    labels = [place for first, stop in chunks for place in range(first + lookback - 1, stop)]
    assert labels == [place for first, stop in spans for place in range(first + lookback - 1, stop)]
    assert ((chunks[:, 1] - chunks[:, 0]) <= lookback + more).all()
    assert all(any(a <= first and stop <= b for a, b in spans) for first, stop in chunks)
