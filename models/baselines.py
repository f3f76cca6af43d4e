"""Baselines that a forecast has to beat: rules and small classical models, on the same rows as the network.

Each is fitted on the training rows alone and has the network's `fit` and `predict`. A rule forecasts the probability
with which it was right on the training rows. scikit-learn is imported where a model is fitted: a forecast needs none
of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.prediction import Prediction, on_panel
from models.scaling import replace_outliers
from models.windows import (
    Mode,
    check_panel,
    first_session,
    gather_windows,
    labelled_rows,
    start_of_run,
    usable_rows,
)

__all__ = ["BASELINES", "MOMENTUM", "RECENT", "Baseline", "FittedBaseline", "baselines"]

RECENT: Final = 5
"""Number of recent returns that the classical models see, next to all features of the last session."""

MOMENTUM: Final = (252, 21)
"""The long momentum is the return from 252 to 21 sessions ago: a year without its last month, in which returns tend to
reverse. Jegadeesh and Titman (1993), "Returns to buying winners and selling losers"; without the last month as in
Fama and French (1996), "Multifactor explanations of asset pricing anomalies"."""

_CERTAIN: Final = 0.999
"""Highest probability of a rule: at 1, a single miss would cost an infinite log loss."""

_LEAST_SURE: Final = 0.501
"""Lowest probability of a rule's direction: it issues one even if it was no better than chance in training."""

_DIGITS: Final = 9
"""Digits of a sum of returns that are no rounding error."""

Inputs = NDArray[np.float32]
Read = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]], Inputs]
"""x [symbol, session, feature], mask [symbol, session] and flat row numbers to inputs [row, column]."""

Estimate = Callable[[Inputs], NDArray[np.float64]]
"""Inputs [row, column] to p_up [row]."""

Learn = Callable[[Inputs, NDArray[np.float32], int], Estimate]
"""Inputs [row, column], labels [row] and a seed to an estimate."""


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted baseline.

    Attributes:
        estimates: One per horizon.
        base_rate: Share of ups among the training rows, [horizon].
        features: Columns of x.
        read: Gathers the inputs of rows.
        reach: Sessions that the inputs of a row are gathered from, its own included.
        lookback: Sessions that a row needs, as for the network.
        mode: Which sessions these are, as for the network.
        start: First session that is read, as for the network; None in windowed mode.
    """

    estimates: tuple[Estimate, ...]
    base_rate: NDArray[np.float64]
    features: int
    read: Read
    reach: int
    lookback: int
    mode: Mode
    start: int | None

    def first_session(self, row: int) -> int:
        """Return the first session read by forecasts of session `row` and later, in the block of the fit."""
        return first_session(self.start, max(self.lookback, self.reach), row)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """Zeros, [horizon]: a baseline never abstains."""
        return np.zeros(len(self.estimates))

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every usable row of x [symbol, session, feature]; low = high = p_up.

        Raises:
            ModelError: the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.features)
        usable = usable_rows(mask, self.lookback, self.mode)
        rows = np.flatnonzero(usable).astype(np.int32)
        p_up = np.empty((len(rows), len(self.estimates)))
        if len(rows):
            inputs = self.read(x, mask, rows)
            p_up = np.stack([estimate(inputs) for estimate in self.estimates], axis=1)
        panel = on_panel(p_up, usable)
        return Prediction(panel, panel, panel)


@dataclass(frozen=True)
class Baseline:
    """A baseline to be fitted, with the network's `fit`; nothing in it is stopped early or calibrated.

    Attributes:
        learn: Fits one horizon.
        read: Gathers the inputs of rows.
        reach: Sessions that the inputs of a row are gathered from, its own included.
        lookback: Sessions that a row needs, as for the network.
        mode: Which sessions these are, as for the network.
    """

    learn: Learn
    read: Read
    reach: int
    lookback: int
    mode: Mode = "windowed"

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
    ) -> FittedBaseline:
        """Fit on the labels of the sessions in `train`.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers to fit on.
            stop: Decides, as for the network, the first session that is read in sequence mode; nothing else.
            calibrate: Unused.
            seed: Seed of the classical models.

        Raises:
            ModelError: no row of `train` has a label, or a valid row is not finite.
        """
        check_panel(x, mask, x.shape[-1])
        usable = usable_rows(mask, self.lookback, self.mode)
        estimates, base_rate = [], []
        for horizon in range(y.shape[-1]):
            rows = labelled_rows(usable, y[:, :, horizon : horizon + 1], train, "train")
            labels = y[:, :, horizon].reshape(-1)[rows]
            inputs = self.read(x, mask, rows)
            estimates.append(self.learn(inputs, labels, seed))
            base_rate.append(float(labels.mean(dtype=np.float64)))
        return FittedBaseline(
            estimates=tuple(estimates),
            base_rate=np.array(base_rate),
            features=x.shape[-1],
            read=self.read,
            reach=self.reach,
            lookback=self.lookback,
            mode=self.mode,
            start=start_of_run(self.mode, stop, self.lookback),
        )


def baselines(
    return_feature: int, lookback: int, mode: Mode = "windowed", universe_features: Sequence[int] = ()
) -> dict[str, Baseline]:
    """Return every baseline by name, in the order of BASELINES.

    Args:
        return_feature: Column of x with the return of the row's own session.
        lookback: Sessions that the network needs: the baselines forecast the same rows.
        mode: Which sessions these are, as for the network.
        universe_features: Columns of x about the other symbols; none: there is no logistic_without_universe.
    """
    recent = min(RECENT, lookback)
    learners = _learners(return_feature, recent)
    if universe_features:
        learners["logistic_without_universe"] = _learn_logistic_without(tuple(universe_features))
    reads = dict.fromkeys(learners, (partial(_read_recent, return_feature, recent), recent))
    reads["momentum_252_21"] = partial(_read_momentum, return_feature), MOMENTUM[0]
    return {name: Baseline(learn, *reads[name], lookback, mode) for name, learn in learners.items()}


def _read_recent(
    return_feature: int,
    recent: int,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    rows: NDArray[np.int32],
) -> Inputs:
    """Return [row, column]: the features of the last session in their order, then the returns before it.

    In sequence mode there may be sessions without a bar in between, which count as returns of zero.
    """
    returns = gather_windows(x[:, :, [return_feature]], rows, recent)[:, :-1, 0]
    return np.concatenate([x.reshape(-1, x.shape[-1])[rows], returns], axis=1)


def _read_momentum(
    return_feature: int, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Inputs:
    """Return [row, 1]: the sum of the returns from MOMENTUM[0] to MOMENTUM[1] sessions ago.

    Sessions without a valid row count as returns of zero; a symbol whose first valid row is younger has a sum of 0,
    which is no direction. Sums are rounded, so that a row has the same sign wherever the block begins.
    """
    first, last = MOMENTUM
    total = np.zeros(mask.shape, np.float32)
    if mask.shape[1] >= first:
        level = np.cumsum(np.where(mask, x[:, :, return_feature], 0), axis=1, dtype=np.float64)
        before = np.pad(level, ((0, 0), (1, 0)))[:, : mask.shape[1] - first + 1]
        has_begun = np.logical_or.accumulate(mask, axis=1)[:, : mask.shape[1] - first + 1]
        sums = level[:, first - last - 1 : mask.shape[1] - last] - before
        total[:, first - 1 :] = np.where(has_begun, sums, 0).round(_DIGITS)
    return total.reshape(-1, 1)[rows]


def _share_of_ups(labels: NDArray[np.float32]) -> float:
    return float(np.clip(labels.mean(dtype=np.float64), 1 - _CERTAIN, _CERTAIN))


def _always(p_up: float) -> Estimate:
    return lambda inputs: np.full(len(inputs), p_up)


def _learn_always_up(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    return _always(max(_share_of_ups(labels), _LEAST_SURE))


def _learn_base_rate(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    return _always(_share_of_ups(labels))


def _learn_sign(direction_of: Callable[[Inputs], NDArray[np.float32]]) -> Learn:
    """Return a rule whose direction is the sign of a number."""

    def learn(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
        base_rate, direction = _share_of_ups(labels), direction_of(inputs)
        hits = ((direction > 0) == (labels > 0.5))[direction != 0]
        hit_rate = float(np.clip(hits.mean() if len(hits) else 0.0, _LEAST_SURE, _CERTAIN))

        def estimate(inputs: Inputs) -> NDArray[np.float64]:
            direction = direction_of(inputs)
            return np.select([direction > 0, direction < 0], [hit_rate, 1 - hit_rate], base_rate)

        return estimate

    return learn


def _learn_logistic(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    """Logistic regression on standardised inputs without far outliers, with a modest L2 penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return _learn_classifier(pipeline, replace_outliers(inputs), labels)


def _learn_logistic_without(columns: tuple[int, ...]) -> Learn:
    """Return logistic regression without some of the columns."""

    def learn(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
        estimate = _learn_logistic(np.delete(inputs, columns, axis=1), labels, seed)
        return lambda inputs: estimate(np.delete(inputs, columns, axis=1))

    return learn


def _momentum(return_feature: int, recent: int, inputs: Inputs) -> NDArray[np.float32]:
    """Return the sum of the last `recent` returns; the inputs end with those before the last session."""
    before = inputs[:, inputs.shape[1] - (recent - 1) :]
    return np.asarray(inputs[:, return_feature] + before.sum(axis=1))


def _learn_boosting(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    """Gradient boosting of small trees, kept short: daily returns are nearly all noise."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        max_iter=50,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=seed,
    )
    return _learn_classifier(trees, inputs, labels)


def _learn_classifier(classifier: Any, inputs: Inputs, labels: NDArray[np.float32]) -> Estimate:
    if labels.min() == labels.max():
        return _always(_share_of_ups(labels))
    classifier.fit(inputs, labels)
    return lambda inputs: np.asarray(classifier.predict_proba(inputs)[:, 1], dtype=np.float64)


def _learners(return_feature: int, recent: int) -> dict[str, Learn]:
    return {
        "always_up": _learn_always_up,
        "base_rate": _learn_base_rate,
        "last_sign": _learn_sign(lambda inputs: inputs[:, return_feature]),
        "reversal": _learn_sign(lambda inputs: -inputs[:, return_feature]),
        "momentum": _learn_sign(partial(_momentum, return_feature, recent)),
        "reversal_5": _learn_sign(lambda inputs: -_momentum(return_feature, recent, inputs)),
        "momentum_252_21": _learn_sign(lambda inputs: inputs[:, 0]),
        "logistic_regression": _learn_logistic,
        "gradient_boosting": _learn_boosting,
    }


BASELINES: Final = (*_learners(return_feature=0, recent=RECENT), "logistic_without_universe")
"""Names of the baselines, from the simplest on; the last one only if there are features about other symbols."""
