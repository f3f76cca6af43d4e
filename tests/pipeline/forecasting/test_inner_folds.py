"""A search is cut inside the training data: nothing of it reaches what scores the procedure."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.inner_folds import FOLDS, cut_inside, last_inside
from tests.support.made_sequences import sequences_of


def block(sessions: int, horizons: tuple[int, ...]) -> Sequences:
    x, y = np.zeros((1, sessions, 1), np.float32), np.ones((1, sessions, len(horizons)), np.float32)
    days = pd.bdate_range("2010-01-04", periods=sessions)
    return sequences_of(x, np.ones((1, sessions), bool), y, ("A",), days, horizons, ("a",))


def outer(train: range) -> Fold:
    return Fold(train, range(train.stop + 1, train.stop + 2), range(0), range(0))


def cut(train: range, horizons: tuple[int, ...], slices: int = 60) -> list[Fold]:
    fold = outer(train)
    inside = block(last_inside(fold, horizons) + 1, horizons)
    return cut_inside(inside, fold, stop_sessions=slices, calibrate_sessions=slices, test_sessions=slices)


@given(
    first=st.integers(0, 60),
    length=st.integers(400, 3000),
    slices=st.integers(20, 500),
    horizon=st.integers(1, 20),
)
def test_every_label_inside_is_known_before_the_next_range_and_before_the_end(
    first: int, length: int, slices: int, horizon: int
) -> None:
    train, horizons = range(first, first + length), (1, horizon) if horizon > 1 else (1,)
    folds = cut(train, horizons, slices)
    assert len(folds) == FOLDS
    for fold in folds:
        assert fold.train.start == first
        for one, following in pairwise(fold.parts.values()):
            assert one.stop - 1 + horizon < following.start
            assert 20 <= len(following) <= min(slices, length // 8)
    assert folds[-1].test.stop == train.stop
    assert last_inside(outer(train), horizons) == train.stop - 1 + horizon


def test_the_slices_that_validate_follow_each_other_without_a_row_twice() -> None:
    one, other = cut(range(30, 1030), (1,), 100)
    assert one.test.stop == other.test.start
    assert len(one.test) == len(other.test) == 100


def test_the_first_fold_trains_on_half_of_the_training_data_at_least() -> None:
    first = cut(range(0, 1600), (1,), 500)[0]
    assert len(first.train) >= 1600 // 2 - 3


def test_too_little_history_is_an_error_with_a_fix() -> None:
    with pytest.raises(InputError, match="too little history for a search") as short:
        cut(range(0, 159), (1,))
    assert "fetch a longer history" in short.value.fix
    with pytest.raises(InputError, match="too little history"):
        cut(range(0, 200), (1, 20))
