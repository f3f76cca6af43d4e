"""The forecasts with an outcome, all models aligned on the same rows: the input of every score and test."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import NextdayError
from pipeline.outputs import MAIN, Output, describe_output, list_outputs
from pipeline.schema import FORECAST_KEY
from pipeline.statistics import metrics, ranking

__all__ = ["LabelledRows", "gather_labelled"]

Floats = NDArray[np.float64]
Places = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Labelled rows in order of session.

    Attributes:
        p: Probability of up of every model [n].
        y: Outcome [n].
        session: Number of the target session [n], from 0 without gaps.
        output: What the rows forecast.
        symbol, as_of, target: Each row's index [n] into the three `levels`.
        levels: The symbols, the as_of and the target sessions.
        returns: Realized return [n], NaN where unknown; None where the rows came without.
    """

    p: Mapping[str, Floats]
    y: Floats
    session: NDArray[np.intp]
    output: Output
    symbol: Places
    as_of: Places
    target: Places
    levels: "Sequence[pd.Index[Any]]"
    returns: Floats | None = None

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return self.output.horizon

    @property
    def sessions(self) -> int:
        """The number of target sessions."""
        return int(self.session[-1]) + 1 if len(self.session) else 0

    @cached_property
    def return_ranks(self) -> Floats:
        """The rank of each return inside its session [n], NaN where it is unknown."""
        returns = np.full(len(self.y), np.nan) if self.returns is None else self.returns
        return ranking.rank_returns(returns, self.session)

    def by_session(self, values: Floats) -> Floats:
        """Return the sum of `values` [n] over each session."""
        sums: Floats = np.bincount(self.session, weights=values, minlength=self.sessions).astype(float)
        return sums

    def log_loss(self, model: str) -> Floats:
        """Return the mean log loss per session [session]."""
        return self.by_session(metrics.log_losses(self.p[model], self.y)) / np.bincount(self.session)

    def require(self, model: str) -> None:
        """Raise a NextdayError if there are rows and none is by `model`."""
        if len(self.y) and model not in self.p:
            raise NextdayError(f"There is no forecast by {model!r}; there are {', '.join(sorted(self.p))}")


def gather_labelled(rows: pd.DataFrame, models: Collection[str] | None = None) -> LabelledRows:
    """Align the labelled rows of all models, or of some: rows filtered before would be a copy of most of them.

    Args:
        rows: model, symbol, as_of, target_session, horizon, target, p_up, outcome (NaN without a label: left out), and
            realized_return where known.
        models: The models to align; None: all.

    Raises:
        NextdayError: there are several outputs, or the models have different rows.
    """
    labelled = rows["outcome"].notna().to_numpy()
    output = _only_output(rows[[name for name in ("horizon", "target") if name in rows]][labelled])
    levels = [pd.Index(np.asarray(rows[key].unique())).sort_values() for key in _KEYS]
    names = [str(name) for name in rows["model"].unique() if models is None or name in models]
    own = {name: np.flatnonzero(labelled & (rows["model"] == name).to_numpy()) for name in names}
    own = {name: rows_of.astype(np.int32) for name, rows_of in own.items() if len(rows_of)}
    known, row = _match(rows, own, levels)
    p, y, returns = {}, np.full(len(known), np.nan), None
    for name, rows_of in own.items():
        p_up, outcome = (rows[column].to_numpy()[rows_of].astype(float) for column in ("p_up", "outcome"))
        p[name] = _on_every_row(name, row[name], p_up, len(known))
        y = y if len(p) > 1 else _put(row[name], outcome, len(known))
        if not np.array_equal(y[row[name]], outcome):
            raise NextdayError(f"The outcomes of {name} differ from those of other models on the same rows")
        if returns is None and "realized_return" in rows:
            realized = rows["realized_return"].to_numpy()[rows_of].astype(float)
            returns = _put(row[name], realized, len(known))
    symbol, as_of, target = _keys_of(known, levels)
    session = np.cumsum(np.diff(target, prepend=target[:1]) > 0, dtype=np.intp)
    return LabelledRows(p, y, session, output, symbol, as_of, target, levels, returns)


def _only_output(rows: pd.DataFrame) -> Output:
    outputs = list_outputs(rows)
    if len(outputs) > 1:
        raise NextdayError(
            f"Rows of several outputs ({'; '.join(map(describe_output, outputs))}) cannot be scored together",
            fix="score each output by itself",
        )
    return outputs[0] if outputs else MAIN


_KEYS: Final = ("symbol", "as_of", "target_session")


def _number_rows(rows: pd.DataFrame, chosen: Places, levels: "list[pd.Index[Any]]") -> NDArray[np.int64]:
    """Return a number for the key of each chosen row; it rises with the target session."""
    number, size = np.zeros(len(chosen), np.int64), 1
    for key, level in zip(_KEYS, levels, strict=True):
        number += _place_in(level, rows[key].take(chosen)) * size
        size *= max(len(level), 1)
    return number


def _place_in(level: "pd.Index[Any]", values: "pd.Series[Any]") -> Places:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(level.get_indexer(values.cat.categories)[values.cat.codes])
    return np.asarray(level.get_indexer(pd.Index(values)))


def _match(
    rows: pd.DataFrame, own: Mapping[str, Places], levels: "list[pd.Index[Any]]"
) -> tuple[NDArray[np.int64], Mapping[str, Places]]:
    """Return the distinct numbers of all models' rows in rising order, and the index of each model's rows into them."""
    if not own:
        return np.empty(0, np.int64), {}
    first, *others = own
    number = _number_rows(rows, own[first], levels)
    # The usual case: one search instead of one per model, and the numbers of no more than two models at a time.
    if all(np.array_equal(number, _number_rows(rows, own[name], levels)) for name in others):
        known = np.sort(pd.unique(number))
        return known, dict.fromkeys(own, np.searchsorted(known, number))
    numbers = {name: _number_rows(rows, rows_of, levels) for name, rows_of in own.items()}
    known = np.sort(pd.unique(np.concatenate([*numbers.values()])))
    return known, {model: np.searchsorted(known, number) for model, number in numbers.items()}


def _keys_of(number: NDArray[np.int64], levels: list[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield the codes of each part of the numbered keys."""
    for found in levels:
        number, code = np.divmod(number, max(len(found), 1))
        yield code


def _on_every_row(model: str, row: Places, p_up: Floats, rows: int) -> Floats:
    p = _put(row, p_up, rows)
    if len(row) != rows or np.isnan(p).any():
        missing, extra = int(np.isnan(p).sum()), len(row) - len(np.unique(row))
        raise NextdayError(
            f"The models do not have the same rows: {model} has no p_up on {missing} of {rows} rows and more "
            f"than one on {extra}",
            fix=f"give every model exactly one row per {', '.join(FORECAST_KEY)}",
        )
    return p


def _put(row: Places, values: Floats, rows: int) -> Floats:
    """Return an array [rows] with the values at `row`, NaN elsewhere."""
    put = np.full(rows, np.nan)
    put[row] = values
    return put
