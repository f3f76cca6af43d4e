"""Baselines that a forecast has to beat: rules and small classical models, on the same rows as the network.

Each is fitted on the training rows alone and has the network's `fit` and `predict`. A rule forecasts the probability
with which it was right on the training rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baseline_inputs import (
    MOMENTUM,
    RECENT,
    Read,
    read_centred,
    read_column,
    read_momentum,
    read_recent,
    read_window,
)
from models.learners import (
    LOGISTIC,
    Estimate,
    Learn,
    Tuned,
    learn_logistic_without,
    learn_sign,
    learners,
    rules,
)
from models.prediction import Prediction, on_panel
from models.windows import (
    Mode,
    check_panel,
    first_session,
    labelled_rows,
    start_of_run,
    usable_rows,
)

__all__ = ["BASELINES", "OVERNIGHT", "WINDOW_ROWS", "Baseline", "FittedBaseline", "baselines"]


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
        first_fit: The baseline before its second fit; None: there was none.
        at_once: Rows whose inputs are in memory at a time.
    """

    estimates: tuple[Estimate | None, ...]
    base_rate: NDArray[np.float64]
    features: int
    reads: tuple[Read, ...]
    reach: int
    lookback: int
    mode: Mode
    start: int | None
    first_fit: "FittedBaseline | None" = None
    at_once: int = 2**31

    @property
    def held_out(self) -> "FittedBaseline":
        """The baseline of the first fit, which has not learned from the calibrate range; it may be this one."""
        return self.first_fit or self

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
        for first in range(0, len(rows), self.at_once):
            part = slice(first, first + self.at_once)
            inputs = {read: read(x, mask, rows[part]) for read in {*self.reads}}
            for output, (estimate, read) in enumerate(zip(self.estimates, self.reads, strict=True)):
                if estimate:
                    p_up[part, output] = estimate(inputs[read])
        panel = on_panel(p_up, usable)
        return Prediction(panel, panel, panel)


@dataclass(frozen=True)
class Baseline:
    """A baseline to be fitted, with the network's `fit`; nothing in it is calibrated.

    Attributes:
        learn: Fits one output.
        read: Gathers the inputs of rows.
        reach: Sessions that the inputs of a row are gathered from, its own included.
        lookback: Sessions that a row needs, as for the network.
        mode: Which sessions these are, as for the network.
        outputs: The places of the outputs that it is meant for; None: all.
        relative: Learn and read for the outputs at `relative_outputs`; None: the same as for others.
        relative_outputs: The places of the outputs that compare a return with the median of the session.
        most_rows: Rows that it learns from at most, evenly spaced, and forecasts at a time; None: all.
    """

    learn: Learn | Tuned
    read: Read
    reach: int
    lookback: int
    mode: Mode = "windowed"
    outputs: frozenset[int] | None = None
    relative: tuple[Learn | Tuned, Read] | None = None
    relative_outputs: frozenset[int] = frozenset()
    most_rows: int | None = None

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
        refit: NDArray[np.float32] | None = None,
    ) -> FittedBaseline:
        """Fit on the labels of the sessions in `train`; with `refit` again, on all three ranges.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, output] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers to fit on.
            stop: Chooses the penalty of logistic regression; decides, as for the network, the first session that is
                read in sequence mode.
            calibrate: The last range of the second fit; unused without one.
            seed: Seed of the classical models.
            refit: Labels of the second fit, see RecurrentModel.fit; None: there is none.

        Raises:
            ModelError: no row of `train` has a label, or a valid row is not finite.
        """
        check_panel(x, mask, x.shape[-1])
        usable = usable_rows(mask, self.lookback, self.mode)
        outputs = range(y.shape[-1])
        learns = [self._choose(output, x, mask, y, usable, train, stop, seed) for output in outputs]
        first = FittedBaseline(
            **self._learn(learns, x, mask, y, usable, train, seed),
            features=x.shape[-1],
            reads=tuple(self._part(output)[1] for output in outputs),
            reach=self.reach,
            lookback=self.lookback,
            mode=self.mode,
            start=start_of_run(self.mode, stop, self.lookback),
            at_once=self.most_rows or 2**31,
        )
        if refit is None:
            return first
        every = range(train.start, calibrate.stop)
        again = self._learn(learns, x, mask, refit, usable, every, seed)
        return replace(first, **again, first_fit=first)

    def _learn(
        self,
        learns: Sequence[Learn | None],
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        usable: NDArray[np.bool_],
        sessions: range,
        seed: int,
    ) -> dict[str, Any]:
        """Return the estimates and base rates of all outputs, learned from the labels of `sessions`."""
        estimates, base_rate = [], []
        for output, learn in enumerate(learns):
            rows, labels = _labelled(y, usable, output, sessions, "train")
            read, spaced = self._part(output)[1], self._spaced(rows)
            estimates.append(learn(read(x, mask, rows[spaced]), labels[spaced], seed) if learn else None)
            base_rate.append(float(labels.mean(dtype=np.float64)))
        return {"estimates": tuple(estimates), "base_rate": np.array(base_rate)}

    def _choose(
        self,
        output: int,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        usable: NDArray[np.bool_],
        train: range,
        stop: range,
        seed: int,
    ) -> Learn | None:
        """Return how an output is learned; None: the baseline is not meant for it."""
        learn, read = self._part(output)
        if self.outputs is not None and output not in self.outputs:
            return None
        if not isinstance(learn, Tuned):
            return learn
        parts = [_labelled(y, usable, output, *part) for part in ((train, "train"), (stop, "stop"))]
        inside, held = (
            (read(x, mask, rows[spaced]), labels[spaced])
            for rows, labels in parts
            for spaced in [self._spaced(rows)]
        )
        return learn.choose(inside, held, seed)

    def _spaced(self, rows: NDArray[np.int32]) -> slice:
        """Return which of the rows are learned from."""
        return slice(None, None, -(-len(rows) // self.most_rows) if self.most_rows else None)

    def _part(self, output: int) -> tuple[Learn | Tuned, Read]:
        if self.relative is None or output not in self.relative_outputs:
            return self.learn, self.read
        return self.relative


def _labelled(
    y: NDArray[np.float32], usable: NDArray[np.bool_], output: int, sessions: range, name: str
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the rows of `sessions` with a label of an output, and their labels."""
    rows = labelled_rows(usable, y[:, :, output : output + 1], sessions, name)
    return rows, y[:, :, output].reshape(-1)[rows]


def baselines(
    return_feature: int,
    lookback: int,
    mode: Mode = "windowed",
    universe_features: Sequence[int] = (),
    range_feature: int | None = None,
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
        range_feature: Column of x with the position of the close in the session's range; None: no range_reversal.
        relative: Places of the outputs that compare a return with the session's median: there the rules read how far
            a return lies above or below the median of the valid rows of its session.
        overnight: Places of the overnight outputs: the only ones that the rules of OVERNIGHT forecast.
        overnight_features: Columns of x by the name in OVERNIGHT; without them there are none of these rules.
    """
    recent = min(RECENT, lookback)
    learned = learners(return_feature, recent)
    learned["logistic_window"] = LOGISTIC
    if universe_features:
        learned["logistic_without_universe"] = Tuned(
            partial(learn_logistic_without, tuple(universe_features))
        )
    reads = dict.fromkeys(learned, (partial(read_recent, return_feature, recent), recent))
    # Boosting computes in double precision: so nothing is copied.
    double = partial(read_recent, return_feature, recent, dtype=np.float64)
    reads["gradient_boosting"] = double, recent
    reads["momentum_252_21"] = partial(read_momentum, return_feature), MOMENTUM[0]
    reads["logistic_window"] = partial(read_window, lookback), lookback
    build = partial(Baseline, lookback=lookback, mode=mode, relative_outputs=frozenset(relative))
    centred = {
        name: (
            learn,
            partial(read_centred, return_feature, _READS.get(name, partial(read_recent, 0, recent))),
        )
        for name, learn in rules(0, recent).items()
    }
    made = {name: build(learn, *reads[name], relative=centred.get(name)) for name, learn in learned.items()}
    made["logistic_window"] = replace(made["logistic_window"], most_rows=WINDOW_ROWS)
    if range_feature is not None:
        learn = learn_sign(lambda inputs: -inputs[:, 0])
        read = partial(read_column, range_feature)
        alone = (learn, partial(read_centred, range_feature, partial(read_column, 0)))
        made["range_reversal"] = build(learn, read, 1, relative=alone)
    for name, column in overnight_features.items():
        learn = learn_sign(lambda inputs: inputs[:, 0])
        read = partial(read_column, column)
        alone = (learn, partial(read_centred, column, partial(read_column, 0)))
        made[name] = build(learn, read, 1, outputs=frozenset(overnight), relative=alone)
    return made


_READS: Final[Mapping[str, Read]] = {"momentum_252_21": partial(read_momentum, 0)}
"""How a rule reads a feature that stands alone, where it is not by the recent returns."""


OVERNIGHT: Final = ("last_overnight", "mean_overnight_20")
"""Rules for overnight outputs: the sign of the last overnight return, and of the mean of the last twenty."""

WINDOW_ROWS: Final = 100_000
"""Rows that logistic_window learns from at most, evenly spaced: with hundreds of columns it would cost more than the
network on a large universe, and more rows hardly change a regularised line."""

BASELINES: Final = (
    *learners(return_feature=0, recent=RECENT),
    "logistic_window",
    "logistic_without_universe",
    "range_reversal",
    *OVERNIGHT,
)
"""Names of the baselines, from the simplest on; logistic_without_universe only if there are features about other
symbols, range_reversal only if there is the position of the close in its range, those of OVERNIGHT only for overnight
outputs."""
