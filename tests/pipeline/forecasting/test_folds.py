import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import BacktestConfig, EvaluationConfig, TrainingConfig
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import (
    MIN_TRAIN,
    Fold,
    final_fold,
    require_labels,
    scoring_fold,
    walk_folds,
)
from pipeline.outputs import describe_output
from tests.support.made_sequences import sequences_of

TRAINING = TrainingConfig(stop_sessions=30, calibrate_sessions=40)


def block(sessions: int, horizons: tuple[int, ...] = (1,), warm_up: int = 0) -> Sequences:
    mask = np.ones((2, sessions), bool)
    mask[:, :warm_up] = False
    days = pd.bdate_range("2010-01-04", periods=sessions)
    y = np.ones((2, sessions, len(horizons)), np.float32)
    return sequences_of(
        np.zeros((2, sessions, 3), np.float32), mask, y, ("A", "B"), days, horizons, ("a", "b", "c")
    )


def assert_no_label_reaches_on(fold: Fold, horizon: int) -> None:
    parts = [part for part in fold.parts.values() if len(part)]
    for one, following in pairwise(parts):
        assert one.stop - 1 + horizon < following.start


@given(
    sessions=st.integers(500, 900),
    test=st.integers(20, 150),
    horizon=st.integers(1, 20),
    warm_up=st.integers(0, 60),
)
def test_every_label_is_known_before_the_next_range_begins(
    sessions: int, test: int, horizon: int, warm_up: int
) -> None:
    made = block(sessions, (1, horizon) if horizon > 1 else (1,), warm_up)
    scoring = scoring_fold(made, EvaluationConfig(test_sessions=test), TRAINING)
    final = final_fold(made, TRAINING)
    for fold in (scoring, final):
        assert_no_label_reaches_on(fold, horizon)
        assert fold.train.start == warm_up
        assert len(fold.stop) == 30
        assert len(fold.calibrate) == 40
    assert len(scoring.test) == test
    # The last label of all is known at the last session, and no range asks for a later one.
    assert scoring.test.stop - 1 + horizon == sessions - 1
    assert final.calibrate.stop - 1 + horizon == sessions - 1
    assert len(final.test) == 0


def test_dates_cut_by_the_target_session() -> None:
    made = block(600)
    days = made.sessions
    ends = [days[k].date() for k in (300, 400, 500)]
    fold = scoring_fold(
        made, EvaluationConfig(train_end=ends[0], validation_end=ends[1], test_end=ends[2]), TRAINING
    )
    assert_no_label_reaches_on(fold, 1)
    assert days[fold.test.start + 1] == days[401]
    assert days[fold.test.stop - 1 + 1] == days[500]
    assert days[fold.train.stop - 1 + 1] <= days[300]
    assert days[fold.calibrate.stop - 1 + 1] <= days[400]


def test_dates_cut_exactly_where_the_farthest_label_still_fits() -> None:
    made = block(600, (1, 5))
    ends = [made.sessions[k].date() for k in (300, 400, 500)]
    dates = EvaluationConfig(train_end=ends[0], validation_end=ends[1], test_end=ends[2])
    fold = scoring_fold(made, dates, TRAINING)
    # Row t belongs to its next session, t + 1; the label of the last row of a range is known within it.
    assert fold == Fold(range(0, 295), range(300, 345), range(350, 395), range(400, 496))


def test_as_many_sessions_to_train_on_as_are_needed_are_enough() -> None:
    for sessions, is_enough in ((MIN_TRAIN + 174, True), (MIN_TRAIN + 173, False)):
        with nullcontext() if is_enough else pytest.raises(InputError, match="too little history"):
            fold = scoring_fold(block(sessions), EvaluationConfig(test_sessions=100), TRAINING)
            assert len(fold.train) == MIN_TRAIN
    made = block(600)
    for last, is_enough in ((MIN_TRAIN + 1, True), (MIN_TRAIN, False)):
        train_end, validation_end, test_end = (made.sessions[k].date() for k in (last, 400, 500))
        dates = EvaluationConfig(train_end=train_end, validation_end=validation_end, test_end=test_end)
        with nullcontext() if is_enough else pytest.raises(InputError, match="too few sessions for train;"):
            assert len(scoring_fold(made, dates, TRAINING).train) == MIN_TRAIN


def test_what_a_fit_sees_holds_no_outcome_of_the_test() -> None:
    made = block(600)
    fold = scoring_fold(made, EvaluationConfig(test_sessions=100), TRAINING)
    seen = fold.inputs(made)
    assert np.isnan(seen.y[:, fold.calibrate.stop :]).all()
    assert not np.isnan(seen.y[:, : fold.calibrate.stop]).any()
    scored = fold.outcomes(made)
    assert np.isnan(scored[:, : fold.stop.start]).all()
    np.testing.assert_array_equal(scored[:, fold.test.start : fold.test.stop], made.y[:, 500 - 1 : 600 - 1])
    assert not np.isnan(made.y).any()


def test_too_little_history_is_refused_with_numbers() -> None:
    with pytest.raises(InputError) as caught:
        scoring_fold(block(200), EvaluationConfig(test_sessions=100), TRAINING)
    assert "200 sessions" in str(caught.value)
    assert "at least 204 sessions with features are needed" in caught.value.fix


def test_the_numbers_that_the_message_proposes_do() -> None:
    with pytest.raises(InputError) as caught:
        scoring_fold(block(690), EvaluationConfig(), TrainingConfig())
    test, stop, calibrate, left = map(int, re.findall(r"(?:= |leave )(\d+)", caught.value.fix))
    training = TrainingConfig(stop_sessions=stop, calibrate_sessions=calibrate)
    fold = scoring_fold(block(690), EvaluationConfig(test_sessions=test), training)
    assert len(fold.train) == left
    with pytest.raises(InputError) as caught:
        walk_folds(block(690), EvaluationConfig(), TrainingConfig(), BacktestConfig())
    walk, refit, stop, calibrate = map(int, re.findall(r"= (\d+)", caught.value.fix))
    training = TrainingConfig(stop_sessions=stop, calibrate_sessions=calibrate)
    folds = walk_folds(
        block(690), EvaluationConfig(), training, BacktestConfig(train_sessions=walk, refit_sessions=refit)
    )
    assert len(folds) >= 3


def test_too_short_a_history_is_told_by_what_each_range_takes() -> None:
    made = block(260, (1, 5), warm_up=20)
    with pytest.raises(InputError) as scoring:
        scoring_fold(made, EvaluationConfig(test_sessions=100), TRAINING)
    assert scoring.value.what == (
        "There is too little history: 240 sessions with features, of which 100 go to the test, 30 to early stopping "
        "and 40 to calibration and 20 are left out for labels 5 sessions ahead; 50 would be left to train on, and at "
        f"least {MIN_TRAIN} are needed"
    )
    with pytest.raises(InputError, match=r" 40 to calibration; 0 would be left to train on,"):
        scoring_fold(block(100), EvaluationConfig(test_sessions=100), TRAINING)
    assert "[evaluation] test_sessions = " in scoring.value.fix
    long = TrainingConfig(stop_sessions=100, calibrate_sessions=100)
    with pytest.raises(InputError) as final:
        final_fold(made, long)
    assert "240 sessions with features, of which 0 go to the test, 100 to early stopping" in final.value.what
    assert "and 15 are left out for labels 5 sessions ahead" in final.value.what
    assert final.value.fix.startswith("set [training] stop_sessions = ")
    stop, calibrate, left = map(int, re.findall(r"(?:= |leave )(\d+)", final.value.fix))
    fold = final_fold(made, TrainingConfig(stop_sessions=stop, calibrate_sessions=calibrate))
    assert len(fold.train) == left


@pytest.mark.parametrize("part", ["train", "stop", "calibrate"])
def test_an_output_without_a_label_in_a_range_is_refused_by_name(part: str) -> None:
    made = block(600, (1, 5))
    fold = scoring_fold(made, EvaluationConfig(test_sessions=100), TRAINING)
    require_labels(made, fold, "the fit")
    rows = fold.parts[part]
    made.y[:, rows.start : rows.stop, 1] = np.nan
    made.y[1, rows.stop - 1, 1] = 1
    require_labels(made, fold, "the fit")  # one label is enough, if its row is valid
    made.mask[1, rows.stop - 1] = False
    with pytest.raises(InputError) as caught:
        require_labels(made, fold, "the fit")
    first, last = (f"{made.sessions[row]:%Y-%m-%d}" for row in (rows[0], rows[-1]))
    assert caught.value.what == (
        f"the fit: no label {describe_output(made.outputs[1])} in its {part} range, {first} to {last}"
    )
    made.y[:, fold.test.start :, 0] = np.nan
    require_labels(replace(made, y=made.y[..., :1], outputs=made.outputs[:1]), fold, "the fit")


def test_no_valid_row_at_all_is_refused() -> None:
    made = block(600)
    with pytest.raises(InputError, match="No session has a valid row") as caught:
        final_fold(replace(made, mask=np.zeros_like(made.mask)), TRAINING)
    assert caught.value.where == (
        f"2 symbols, A for one, in 600 sessions from 2010-01-04 to {made.sessions[599]:%Y-%m-%d}"
    )


def test_dates_outside_the_history_are_refused() -> None:
    ends = {"train_end": date(2001, 1, 1), "validation_end": date(2002, 1, 1), "test_end": date(2003, 1, 1)}
    with pytest.raises(
        InputError, match="too few sessions for train and stop and calibrate and test; "
    ) as it:
        scoring_fold(block(600, warm_up=7), EvaluationConfig(**ends), TRAINING)
    days = block(600).sessions
    assert it.value.where == "[evaluation] train_end, validation_end, test_end"
    assert f"run from {days[7]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}" in it.value.what


@given(
    sessions=st.integers(400, 1500),
    refit=st.integers(20, 300),
    horizon=st.integers(1, 20),
    warm_up=st.integers(0, 60),
    window=st.sampled_from(["expanding", "rolling"]),
)
def test_a_walk_tests_every_session_once_and_learns_from_none_of_them(
    sessions: int, refit: int, horizon: int, warm_up: int, window: str
) -> None:
    made = block(sessions, (1, horizon) if horizon > 1 else (1,), warm_up)
    settings = BacktestConfig(window=window, train_sessions=150, refit_sessions=refit)  # type: ignore[arg-type]
    folds = walk_folds(made, EvaluationConfig(), TRAINING, settings)
    for fold in folds:
        assert_no_label_reaches_on(fold, horizon)
        assert (len(fold.stop), len(fold.calibrate)) == (30, 40)
        assert 1 <= len(fold.test) <= refit
        assert fold.train.start == (warm_up if window == "expanding" else fold.train.stop - 150)
    assert len(folds[0].train) == 150
    tested = [row for fold in folds for row in fold.test]
    assert tested == list(range(folds[0].test.start, sessions - horizon))
    assert np.isfinite(made.y[:, tested]).all()


def test_a_walk_by_dates_is_the_single_fold_that_scores() -> None:
    made = block(600)
    ends = [made.sessions[k].date() for k in (300, 400, 500)]
    dates = EvaluationConfig(train_end=ends[0], validation_end=ends[1], test_end=ends[2])
    assert walk_folds(made, dates, TRAINING, BacktestConfig()) == [scoring_fold(made, dates, TRAINING)]


def test_too_short_a_history_for_a_walk_is_an_error_with_its_numbers() -> None:
    with pytest.raises(InputError, match=r"too little history for a walk: 299 sessions .* needs 829"):
        walk_folds(block(300), EvaluationConfig(), TRAINING, BacktestConfig())
    with pytest.raises(InputError, match=r"too little history for a walk: 0 sessions ") as caught:
        walk_folds(block(20, (1, 20), warm_up=10), EvaluationConfig(), TRAINING, BacktestConfig())
    assert caught.value.fix == (
        "fetch a longer history ([prices] start): 750 sessions (three years) or more tell something"
    )
