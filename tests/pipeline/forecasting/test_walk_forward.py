"""The one forecast function and the walk, with a ten-line model instead of a network."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from pipeline.config import EvaluationConfig, TrainingConfig
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import scoring_fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.walk_forward import mask_labels, walk_forward
from pipeline.market.calendar import Calendar
from tests.support.made_sequences import sequences_of

SESSIONS = 400
TRAINING = TrainingConfig(stop_sessions=30, calibrate_sessions=40)
EVALUATION = EvaluationConfig(test_sessions=60)


@dataclass
class Said:
    p_up: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class Knowing:
    """Says what its first feature says; remembers the labels it was taught with."""

    lookback: int = 3
    base_rate: np.ndarray = field(default_factory=lambda: np.array([0.5]))
    threshold: np.ndarray = field(default_factory=lambda: np.array([0.0]))
    taught: list[np.ndarray] = field(default_factory=list)
    again: list[np.ndarray | None] = field(default_factory=list)
    first: "Knowing | None" = None

    @property
    def held_out(self) -> "Knowing":
        return self.first or self

    def fit(self, x, mask, y, *, train, stop, calibrate, seed, refit=None):  # type: ignore[no-untyped-def]
        self.taught.append(y)
        self.again.append(refit)
        return self if refit is None else replace(self, base_rate=np.array([0.6]), first=self)

    def first_session(self, row):  # type: ignore[no-untyped-def]
        return max(row - self.lookback + 1, 0)

    def predict(self, x, mask):  # type: ignore[no-untyped-def]
        p = np.where(mask, x[:, :, 0], np.nan)[:, :, None].astype(float) + (0.1 if self.first else 0)
        p[:, : self.lookback - 1] = np.nan
        return Said(p, p - 0.1, p + 0.1)


@pytest.fixture
def made(xnys: Calendar) -> Sequences:
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, (3, SESSIONS, 1))
    y = (returns > 0).astype(np.float32)
    y[:, -1] = np.nan
    mask = np.ones((3, SESSIONS), bool)
    mask[2, 350:355] = False
    x = rng.uniform(0.2, 0.8, (3, SESSIONS, 2)).astype(np.float32)
    return sequences_of(x, mask, y, ("A", "B", "C"), xnys.sessions[:SESSIONS], (1,), ("f", "g"), returns)


def test_a_forecast_is_for_the_session_after_its_as_of(made: Sequences, xnys: Calendar) -> None:
    sequences = made
    rows = forecast(Knowing(), sequences, range(SESSIONS - 1, SESSIONS), xnys)
    assert rows["symbol"].tolist() == ["A", "B", "C"]
    assert set(rows["as_of"]) == {xnys.sessions[SESSIONS - 1]}
    assert set(rows["target_session"]) == {xnys.sessions[SESSIONS]}
    assert rows["p_up"].tolist() == pytest.approx(sequences.x[:, -1, 0].tolist())


def test_a_direction_is_told_from_the_threshold_on(made: Sequences, xnys: Calendar) -> None:
    sequences = made
    rows = forecast(Knowing(threshold=np.array([0.2])), sequences, range(SESSIONS), xnys)
    told = rows["p_up"].groupby(rows["direction"]).agg(["min", "max"])
    assert told.index.tolist() == ["down", "none", "up"]
    assert told.loc["down", "max"] <= 0.3 < told.loc["none", "min"]
    assert told.loc["none", "max"] < 0.7 <= told.loc["up", "min"]


def test_symbols_may_have_a_threshold_of_their_own(made: Sequences, xnys: Calendar) -> None:
    own = np.array([[0.0], [0.1], [0.2]])
    rows = forecast(Knowing(threshold=own), made, range(SESSIONS), xnys)
    told = rows[rows["direction"] != "none"]
    least = (told["p_up"] - 0.5).abs().groupby(told["symbol"]).min()
    assert least.to_dict() == pytest.approx({"A": 0.0, "B": 0.1, "C": 0.2}, abs=0.01)
    assert (least.to_numpy() >= own[:, 0]).all()


def test_a_slice_forecasts_what_the_whole_forecasts(made: Sequences, xnys: Calendar) -> None:
    sequences = made
    whole = forecast(Knowing(), sequences, range(SESSIONS), xnys)
    one = forecast(Knowing(), sequences, range(200, 201), xnys)
    assert whole[whole["as_of"] == xnys.sessions[200]].reset_index(drop=True).equals(one)


def test_a_masked_symbol_has_no_row(made: Sequences, xnys: Calendar) -> None:
    assert forecast(Knowing(), made, range(352, 353), xnys)["symbol"].tolist() == ["A", "B"]


def walk(  # type: ignore[no-untyped-def]
    made: Sequences, xnys: Calendar, dead_zone: tuple[float, float] = (0.0, 0.0), refit: bool = False
):
    sequences = made
    model = Knowing()
    fold = scoring_fold(sequences, EVALUATION, TRAINING)
    found = walk_forward(
        {"m": model, "n": Knowing()},
        sequences,
        [fold],
        xnys,
        dead_zone=dead_zone,
        seed=0,
        refit=refit,
        progress=print,
    )
    return model, fold, found


def test_every_model_stands_on_the_same_rows_with_their_outcomes(made: Sequences, xnys: Calendar) -> None:
    _, fold, found = walk(made, xnys)
    key = ["symbol", "as_of", "target_session"]
    one, other = (found.test.loc[found.test["model"] == name, key].reset_index(drop=True) for name in "mn")
    assert one.equals(other)
    assert len(one) == 60 * 3 - 5
    row = found.test[(found.test["model"] == "m") & (found.test["symbol"] == "B")].iloc[7]
    at = fold.test.start + 7
    assert row["outcome"] == made.y[1, at, 0]
    assert row["realized_return"] == made.returns[1, at, 0]


def test_what_was_known_before_the_test_ends_before_it(made: Sequences, xnys: Calendar) -> None:
    _, fold, found = walk(made, xnys)
    assert found.before["target_session"].max() < found.test["as_of"].min()
    assert found.before["as_of"].min() == xnys.sessions[fold.stop.start]


def test_a_second_fit_forecasts_the_test_and_the_first_what_was_before(
    made: Sequences, xnys: Calendar
) -> None:
    model, fold, found = walk(made, xnys, dead_zone=(-0.005, 0.005), refit=True)
    assert found.own["baseline_p_up"].eq(0.6).all()
    pd.testing.assert_frame_equal(found.own[[*found.test.columns]], found.test[found.test["model"] == "m"])
    # The second fit says 0.1 more.
    symbol, session = found.before["symbol"].cat.codes, made.sessions.get_indexer(found.before["as_of"])
    assert np.array_equal(found.before["p_up"], made.x[symbol, session, 0].astype(float))
    symbol, session = found.test["symbol"].cat.codes, made.sessions.get_indexer(found.test["as_of"])
    assert found.test["p_up"].to_numpy() == pytest.approx(made.x[symbol, session, 0] + 0.1)
    (taught,), (again,) = model.taught, model.again
    before, small = slice(fold.train.start, fold.calibrate.stop), np.abs(made.returns) <= 0.005
    # It learns from all three ranges and the gaps between them, from no small move, and from nothing later.
    assert np.array_equal(np.isnan(again[:, before]), small[:, before])
    assert np.isnan(again[:, fold.calibrate.stop :]).all()
    assert np.isfinite(taught[:, fold.calibrate.start : fold.calibrate.stop]).all()


def test_no_fit_is_taught_an_outcome_of_the_test(made: Sequences, xnys: Calendar) -> None:
    model, fold, _ = walk(made, xnys)
    assert np.isnan(model.taught[0][:, fold.calibrate.stop :]).all()


def test_small_moves_teach_nothing_and_calibrate_all_the_same(made: Sequences, xnys: Calendar) -> None:
    sequences = made
    fold = scoring_fold(sequences, EVALUATION, TRAINING)
    taught = mask_labels(sequences, fold, (-0.005, 0.005), refit=False).sequences.y
    small = np.abs(sequences.returns) <= 0.005
    learning, calibrating = (
        slice(fold.train.start, fold.stop.stop),
        slice(fold.calibrate.start, fold.calibrate.stop),
    )
    assert np.array_equal(np.isnan(taught[:, learning]), small[:, learning])
    assert not np.isnan(taught[:, calibrating]).any()


def test_small_moves_are_scored_all_the_same(made: Sequences, xnys: Calendar) -> None:
    pd.testing.assert_frame_equal(walk(made, xnys)[2].test, walk(made, xnys, (-0.005, 0.005))[2].test)
