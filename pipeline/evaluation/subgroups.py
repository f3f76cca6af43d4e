"""Subgroup analysis: scores by symbol, sector, year, volatility, weekday and confidence, adjusted for multiple testing.

One of twenty groups looks good by chance: p-values are adjusted for the number of groups of the family that were
tested. Groups with too few sessions are shown but not tested.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import schema
from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.evaluation.verdict import enough_sessions
from pipeline.features.panel import Panel
from pipeline.market.universe import Universe
from pipeline.schema import GROUP_SCORES, empty, validated
from pipeline.statistics import bootstrap, metrics, significance

__all__ = ["FAMILIES", "score_groups", "trailing_volatility"]

Floats = NDArray[np.float64]
Places = NDArray[np.integer]

FAMILIES: Final = ("symbol", "sector", "year", "volatility", "weekday", "confidence")
"""The families of groups; each divides the rows independently of the others."""

_THIRDS: Final = ("calm", "middling", "wild")
_FIFTHS: Final = ("least sure", "less sure", "middling", "surer", "surest")
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def score_groups(
    rows: pd.DataFrame,
    *,
    model: str,
    baseline: str,
    volatility: "pd.Series[float] | None" = None,
    universe: Universe | None = None,
    families: Collection[str] = FAMILIES,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score one model against its baseline in every group of every family.

    value is the mean log loss of the group's rows, or the hit rate of those with a direction; its 95% interval comes
    from the stationary bootstrap of whole sessions, with the same draws for all groups. p_value is Diebold and
    Mariano's on the group's session means, NaN with fewer than `scores.enough_sessions`; adjusted_p is Holm's over the
    `groups` of the family that were tested.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`; rows of other models are ignored.
        model: The model to score.
        baseline: The baseline it is compared with, chosen before the test.
        volatility: By as_of: the volatility of the universe as known at that close (for example a trailing realised
            one); rows are split into thirds of its values on the scored sessions. None, or NaN: no such group.
        universe: The constituents, for their sectors; None, or a list without them: no such group.
        families: Those to score.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        schema.GROUP_SCORES, the families and groups in order, two rows per group; no row without an outcome.

    Raises:
        NextdayError: one of the two is not in `rows`, or they have different rows.
    """
    table = gather_labelled(rows, {model, baseline})
    table.require(model)
    table.require(baseline)
    if not len(table.y):
        return empty(GROUP_SCORES)
    losses = _losses(table, model, baseline)
    by_session = table.log_loss(baseline) - table.log_loss(model)
    copies = bootstrap.resample_sessions(by_session, horizon=table.horizon, draws=draws, seed=seed)
    names = {"model": model, "baseline": baseline, **table.output._asdict()}
    lines = [
        {**names, "family": family, **line}
        for family, place, groups in _families(table, model, volatility, universe)
        if family in families
        for metric, pair in losses.items()
        for line in _score_family(table, metric, pair, place, groups, copies)
    ]
    return validated(pd.DataFrame(lines), GROUP_SCORES)


def trailing_volatility(panel: Panel, sessions: int = 21) -> "pd.Series[float]":
    """Return the trailing volatility of the universe as known at each close, by session; NaN at the beginning.

    The standard deviation of the equally weighted log total return over the last `sessions`, about a month.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.diff(np.log(panel.adj_close), axis=0, prepend=np.nan)
    known = np.isfinite(moves)
    mean = metrics.mean_of(np.where(known, moves, 0.0).sum(axis=1), known.sum(axis=1))
    return pd.Series(mean, panel.sessions).rolling(sessions).std()


def _losses(table: LabelledRows, model: str, baseline: str) -> Mapping[str, tuple[Floats, Floats]]:
    """Return the losses [row] of model and baseline, by metric; NaN where a row has none."""

    def misses(p: Floats) -> Floats:
        return np.where(p == 0.5, np.nan, (p > 0.5) != (table.y == 1))

    own, other = table.p[model], table.p[baseline]
    return {
        "log_loss": (metrics.log_losses(own, table.y), metrics.log_losses(other, table.y)),
        "hit_rate": (misses(own), misses(other)),
    }


def _families(
    table: LabelledRows,
    model: str,
    volatility: "pd.Series[float] | None",
    universe: Universe | None,
) -> Iterator[tuple[str, Places, list[str]]]:
    """Yield each family: its name, the group number of each row (-1 for none), and the names of the groups."""
    symbols, as_of, targets = table.levels
    target = pd.DatetimeIndex(targets)
    yield "symbol", table.symbol, [str(symbol) for symbol in symbols]
    if universe is not None and universe.sectors:
        codes = universe.sector_codes(pd.DatetimeIndex(as_of), [str(symbol) for symbol in symbols])
        yield "sector", codes.to_numpy()[table.as_of, table.symbol], universe.sectors
    years, year = np.unique(target.year, return_inverse=True)
    yield "year", year[table.target], [str(each) for each in years]
    if volatility is not None:
        third = _cut(np.asarray(volatility.reindex(as_of), np.float64), np.unique(table.as_of), len(_THIRDS))
        yield "volatility", third[table.as_of], list(_THIRDS)
    yield "weekday", target.day_of_week.to_numpy()[table.target], list(_WEEKDAYS)
    confidence = np.abs(table.p[model] - 0.5)
    yield "confidence", *_name_fifths(confidence)


def _cut(values: Floats, used: Places, parts: int) -> Places:
    """Return the quantile part of each value, with edges from the used values; -1 for NaN."""
    edges = np.nanquantile(values[used], np.arange(1, parts) / parts) if len(used) else np.empty(0)
    return np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="right")).astype(int)


def _name_fifths(confidence: Floats) -> tuple[Places, list[str]]:
    """Return the fifth of each row and the names of the fifths; with equal confidences there may be fewer."""
    place = metrics.bins_of_equal_count(confidence, len(_FIFTHS))
    found = int(place.max()) + 1
    if found == len(_FIFTHS):
        return place, list(_FIFTHS)
    return place, ["all alike"] if found == 1 else [f"part {each + 1} of {found}" for each in range(found)]


def _score_family(
    table: LabelledRows,
    metric: str,
    losses: tuple[Floats, Floats],
    place: Places,
    groups: list[str],
    copies: Floats,
) -> list[dict[str, Any]]:
    """Return one row per group with a loss of the model."""
    members = list(_split(place, groups, ~np.isnan(losses[0])))
    lines = [_score_group(table, metric, losses, rows) for _, rows in members]
    p_values = np.array([line["p_value"] for line in lines], float)
    tested, adjusted = int(np.count_nonzero(~np.isnan(p_values))), significance.adjust_p_values(p_values)
    sums = [[line.pop(part) for line in lines] for part in ("total", "rows")]
    drawn = [copies @ np.reshape(each, (len(lines), table.sessions)).T for each in sums]
    values = _to_metric(metric, metrics.mean_of(*drawn))
    for number, ((group, _), line) in enumerate(zip(members, lines, strict=True)):
        line |= {"group": group, "metric": metric, "adjusted_p": adjusted[number], "groups": tested}
        enough = line["sessions"] >= schema.MIN_SESSIONS * table.horizon
        interval = bootstrap.percentile_interval(values[:, number] if enough else np.empty(0))
        line["low"], line["high"] = interval
    return lines


def _split(place: Places, groups: list[str], counts: NDArray[np.bool_]) -> Iterator[tuple[str, Places]]:
    """Yield each group with rows that count, and those rows."""
    order = np.argsort(place, kind="stable")
    order = order[counts[order]]
    bounds = np.searchsorted(place[order], np.arange(len(groups) + 1))
    for number, group in enumerate(groups):
        if bounds[number] < bounds[number + 1]:
            yield group, order[bounds[number] : bounds[number + 1]]


def _score_group(
    table: LabelledRows, metric: str, losses: tuple[Floats, Floats], members: Places
) -> dict[str, Any]:
    """Return the scores of one group, with its sums by session."""
    own, other = (loss[members] for loss in losses)
    session, both = table.session[members], ~np.isnan(other)
    rows = np.bincount(session, minlength=table.sessions)
    paired = np.bincount(session[both], minlength=table.sessions)
    total = np.bincount(session[both], significance.drop_rounding((other - own)[both]), table.sessions)
    differences = total[paired > 0] / paired[paired > 0]
    enough = len(differences) >= enough_sessions(table.horizon)
    return {
        "value": float(_to_metric(metric, np.mean(own))),
        "baseline_value": float(_to_metric(metric, np.mean(other[both]))) if both.any() else np.nan,
        "n": len(members),
        "effective_n": metrics.effective_n_of(own, session),
        "sessions": int(np.count_nonzero(rows)),
        "p_value": significance.diebold_mariano(differences, horizon=table.horizon).p_value
        if enough
        else np.nan,
        "total": np.bincount(session, own, table.sessions),
        "rows": rows,
    }


def _to_metric(metric: str, loss: Any) -> Any:
    """Return the metric of a mean loss: a hit rate is 1 minus the share of misses."""
    return 1 - loss if metric == "hit_rate" else loss
