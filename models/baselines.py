"""Baselines that a forecast has to beat: rules and small classical models, on the same rows as the network.

Each is fitted on the training rows alone and has the network's `fit` and `predict`. A rule forecasts the probability
with which it was right on the training rows. scikit-learn is imported where a model is fitted: a forecast needs none
of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baseline_inputs import (
    MOMENTUM,
    RECENT,
    Inputs,
    Read,
    read_centred,
    read_column,
    read_momentum,
    read_recent,
)
from models.prediction import Prediction, on_panel
from models.scaling import replace_outliers
from models.windows import (
    Mode,
    check_panel,
    first_session,
    labelled_rows,
    start_of_run,
    usable_rows,
)

__all__ = ["BASELINES", "OVERNIGHT", "Baseline", "FittedBaseline", "baselines"]

_CERTAIN: Final = 0.999
"""Highest probability of a rule: at 1, a single miss would cost an infinite log loss."""

_LEAST_SURE: Final = 0.501
"""Lowest probability of a rule's direction: it issues one even if it was no better than chance in training."""

Estimate = Callable[[Inputs], NDArray[np.float64]]
"""Inputs [row, column] to p_up [row]."""

Learn = Callable[[Inputs, NDArray[np.float32], int], Estimate]
"""Inputs [row, column], labels [row] and a seed to an estimate."""


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted baseline.

    Attributes:
        estimates: One per output; None where the baseline is not meant for it.
        base_rate: Share of ups among the training rows, [output].
        features: Columns of x.
        reads: Gathers the inputs of rows, one per output.
        reach: Sessions that the inputs of a row are gathered from, its own included.
        lookback: Sessions that a row needs, as for the network.
        mode: Which sessions these are, as for the network.
        start: First session that is read, as for the network; None in windowed mode.
    """

    estimates: tuple[Estimate | None, ...]
    base_rate: NDArray[np.float64]
    features: int
    reads: tuple[Read, ...]
    reach: int
    lookback: int
    mode: Mode
    start: int | None

    def first_session(self, row: int) -> int:
        """Return the first session read by forecasts of session `row` and later, in the block of the fit."""
        return first_session(self.start, max(self.lookback, self.reach), row)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """Zeros, [output]: a baseline never abstains."""
        return np.zeros(len(self.estimates))

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every usable row of x [symbol, session, feature]; low = high = p_up.

        Raises:
            ModelError: the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.features)
        usable = usable_rows(mask, self.lookback, self.mode)
        rows = np.flatnonzero(usable).astype(np.int32)
        p_up = np.full((len(rows), len(self.estimates)), np.nan)
        inputs = {read: read(x, mask, rows) for read in {*self.reads} if len(rows)}
        for output, (estimate, read) in enumerate(zip(self.estimates, self.reads, strict=True)):
            if estimate and len(rows):
                p_up[:, output] = estimate(inputs[read])
        panel = on_panel(p_up, usable)
        return Prediction(panel, panel, panel)


@dataclass(frozen=True)
class Baseline:
    """A baseline to be fitted, with the network's `fit`; nothing in it is stopped early or calibrated.

    Attributes:
        learn: Fits one output.
        read: Gathers the inputs of rows.
        reach: Sessions that the inputs of a row are gathered from, its own included.
        lookback: Sessions that a row needs, as for the network.
        mode: Which sessions these are, as for the network.
        outputs: The places of the outputs that it is meant for; None: all.
        relative: Learn and read for the outputs at `relative_outputs`; None: the same as for others.
        relative_outputs: The places of the outputs that compare a return with the median of the session.
    """

    learn: Learn
    read: Read
    reach: int
    lookback: int
    mode: Mode = "windowed"
    outputs: frozenset[int] | None = None
    relative: tuple[Learn, Read] | None = None
    relative_outputs: frozenset[int] = frozenset()

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
            y: float32 [symbol, session, output] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers to fit on.
            stop: Decides, as for the network, the first session that is read in sequence mode; nothing else.
            calibrate: Unused.
            seed: Seed of the classical models.

        Raises:
            ModelError: no row of `train` has a label, or a valid row is not finite.
        """
        check_panel(x, mask, x.shape[-1])
        usable = usable_rows(mask, self.lookback, self.mode)
        estimates, base_rate, reads = [], [], []
        for output in range(y.shape[-1]):
            learn, read = self._part(output)
            rows = labelled_rows(usable, y[:, :, output : output + 1], train, "train")
            labels = y[:, :, output].reshape(-1)[rows]
            is_meant = self.outputs is None or output in self.outputs
            estimates.append(learn(read(x, mask, rows), labels, seed) if is_meant else None)
            base_rate.append(float(labels.mean(dtype=np.float64)))
            reads.append(read)
        return FittedBaseline(
            estimates=tuple(estimates),
            base_rate=np.array(base_rate),
            features=x.shape[-1],
            reads=tuple(reads),
            reach=self.reach,
            lookback=self.lookback,
            mode=self.mode,
            start=start_of_run(self.mode, stop, self.lookback),
        )

    def _part(self, output: int) -> tuple[Learn, Read]:
        if self.relative is None or output not in self.relative_outputs:
            return self.learn, self.read
        return self.relative


def baselines(
    return_feature: int,
    lookback: int,
    mode: Mode = "windowed",
    universe_features: Sequence[int] = (),
    relative: Iterable[int] = (),
    overnight: Iterable[int] = (),
    overnight_features: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Baseline]:
    """Return every baseline by name, in the order of BASELINES.

    Args:
        return_feature: Column of x with the return of the row's own session.
        lookback: Sessions that the network needs: the baselines forecast the same rows.
        mode: Which sessions these are, as for the network.
        universe_features: Columns of x about the other symbols; none: there is no logistic_without_universe.
        relative: Places of the outputs that compare a return with the session's median: there the rules read how far
            a return lies above or below the median of the valid rows of its session.
        overnight: Places of the overnight outputs: the only ones that the rules of OVERNIGHT forecast.
        overnight_features: Columns of x by the name in OVERNIGHT; without them there are none of these rules.
    """
    recent = min(RECENT, lookback)
    learners = _learners(return_feature, recent)
    if universe_features:
        learners["logistic_without_universe"] = _learn_logistic_without(tuple(universe_features))
    reads = dict.fromkeys(learners, (partial(read_recent, return_feature, recent), recent))
    reads["momentum_252_21"] = partial(read_momentum, return_feature), MOMENTUM[0]
    build = partial(Baseline, lookback=lookback, mode=mode, relative_outputs=frozenset(relative))
    centred = {
        name: (
            learn,
            partial(read_centred, return_feature, _READS.get(name, partial(read_recent, 0, recent))),
        )
        for name, learn in _rules(0, recent).items()
    }
    made = {name: build(learn, *reads[name], relative=centred.get(name)) for name, learn in learners.items()}
    for name, column in overnight_features.items():
        learn = _learn_sign(lambda inputs: inputs[:, 0])
        read = partial(read_column, column)
        alone = (learn, partial(read_centred, column, partial(read_column, 0)))
        made[name] = build(learn, read, 1, outputs=frozenset(overnight), relative=alone)
    return made


_READS: Final[Mapping[str, Read]] = {"momentum_252_21": partial(read_momentum, 0)}
"""How a rule reads a feature that stands alone, where it is not by the recent returns."""


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


def _rules(return_feature: int, recent: int) -> dict[str, Learn]:
    """Return the rules that read returns alone."""
    return {
        "last_sign": _learn_sign(lambda inputs: inputs[:, return_feature]),
        "reversal": _learn_sign(lambda inputs: -inputs[:, return_feature]),
        "momentum": _learn_sign(partial(_momentum, return_feature, recent)),
        "reversal_5": _learn_sign(lambda inputs: -_momentum(return_feature, recent, inputs)),
        "momentum_252_21": _learn_sign(lambda inputs: inputs[:, 0]),
    }


def _learners(return_feature: int, recent: int) -> dict[str, Learn]:
    return {
        "always_up": _learn_always_up,
        "base_rate": _learn_base_rate,
        **_rules(return_feature, recent),
        "logistic_regression": _learn_logistic,
        "gradient_boosting": _learn_boosting,
    }


OVERNIGHT: Final = ("last_overnight", "mean_overnight_20")
"""Rules for overnight outputs: the sign of the last overnight return, and of the mean of the last twenty."""

BASELINES: Final = (*_learners(return_feature=0, recent=RECENT), "logistic_without_universe", *OVERNIGHT)
"""Names of the baselines, from the simplest on; logistic_without_universe only if there are features about other
symbols, those of OVERNIGHT only for overnight outputs."""
