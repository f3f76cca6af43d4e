"""The columns of context series, which the audit passes, and a join by date, which it catches."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.feature_checks import (
    FeatureAudit,
    check_changed,
    check_cut_off,
    check_order,
    check_reach,
)
from pipeline.features.columns import Columns, FeatureSet
from pipeline.features.context import Context, Series, known_instants
from pipeline.features.context_columns import with_context
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel, build_panel
from pipeline.inputs_config import Lag
from pipeline.market.calendar import Calendar, calendar
from tests.pipeline.audit.conftest import SESSIONS, audit_of, market

SERIES = ["^VIX", "TOKYO"]


def walk(days: Calendar, symbol: str, lag: Lag, seed: int, gap: slice = slice(0)) -> Series:
    value = 20 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.05, len(days.sessions))))
    value[gap] = np.nan
    return Series(symbol, days.sessions, known_instants(days, lag), value)


def context_of(xnys: Calendar, missing: Literal["mask", "carry"] = "mask") -> Context:
    tokyo = calendar("XTKS", date(1999, 1, 1), datetime(2020, 1, 1, tzinfo=UTC))
    late = walk(xnys, "^VIX", Lag(sessions=1), 1, slice(200, 202))
    return Context((late, walk(tokyo, "TOKYO", Lag(), 2)), xnys.closes, missing)


def audit_with(
    xnys: Calendar, features: FeatureSet, missing: Literal["mask", "carry"] = "mask"
) -> FeatureAudit:
    return replace(audit_of(market(xnys), features), context=context_of(xnys, missing))


def test_a_column_is_a_change_of_the_newest_value_known(xnys: Calendar) -> None:
    features = with_context(FEATURE_SETS["closes"], SERIES)
    panel = build_panel(market(xnys), context_of(xnys))
    made = features.compute(panel, panel.has_bar)
    assert set(features.columns) == set(made)
    assert (features.label, features.reach) == ("closes + context", 68)
    vix = context_of(xnys).series[0].value
    at = 150
    for k in (1, 5, 21):
        # A lag of a session: at the close of a session the value of the one before is known.
        expected = np.log(vix[at - 1] / vix[at - 1 - k])
        assert made[f"context_^VIX_change_{k}"].iloc[at].to_numpy() == pytest.approx(np.full(6, expected))
    known = np.log(vix[at - 63 : at])
    mean = made["context_^VIX_distance_from_mean_63"].iloc[at, 0]
    assert mean == pytest.approx(known[-1] - known.mean())


def test_where_nothing_new_is_known_the_change_is_zero(xnys: Calendar) -> None:
    panel = build_panel(market(xnys), context_of(xnys))
    made = with_context(FEATURE_SETS["closes"], SERIES).compute(panel, panel.has_bar)
    greenery = panel.sessions.get_loc(pd.Timestamp("1999-04-29"))  # a holiday in Tokyo alone
    assert made["context_TOKYO_change_1"].iloc[greenery, 0] == 0
    assert made["context_TOKYO_change_1"].iloc[greenery - 1, 0] != 0


def test_a_missing_value_masks_one_row_of_every_symbol_and_a_carried_one_none(xnys: Calendar) -> None:
    features = with_context(FEATURE_SETS["closes"], SERIES)
    masked, carried = (audit_with(xnys, features, each).make() for each in ("mask", "carry"))
    lost = carried.mask & ~masked.mask
    # Two values are missing, of sessions 200 and 201, known a session later each.
    assert np.flatnonzero(lost.any(axis=0)).tolist() == [201, 202]
    assert (lost[:, 201] == carried.mask[:, 201]).all()
    assert not (masked.mask & ~carried.mask).any()
    assert np.flatnonzero(masked.mask.any(axis=0))[0] == 63


@pytest.mark.parametrize("missing", ["mask", "carry"])
def test_the_audit_finds_nothing(xnys: Calendar, missing: Literal["mask", "carry"]) -> None:
    audit = audit_with(xnys, with_context(FEATURE_SETS["closes"], SERIES), missing)
    known = audit.make()
    for found in (check_cut_off(audit, known, 6), check_changed(audit, known, 6), check_order(audit, known)):
        assert (found.status, "bit for bit" in found.evidence) == ("passed", True), found
    assert check_reach(audit, known, 6).status == "passed"


def joined_by_date(features: FeatureSet) -> FeatureSet:
    """Return the feature set with a leak: the value of the session's own date, which is known a session later."""

    def compute(panel: Panel, belongs: np.ndarray) -> Columns:
        assert panel.context is not None
        vix = panel.context.series[0]
        values = pd.Series(vix.value, vix.sessions).reindex(panel.sessions).to_numpy()
        column = pd.DataFrame(np.tile(values[:, None], len(panel.symbols)))
        return {**features.compute(panel, belongs), "by_date": column}

    return replace(features, columns=(*features.columns, "by_date"), compute=compute)


def test_a_join_by_date_is_caught(xnys: Calendar) -> None:
    audit = audit_with(xnys, joined_by_date(FEATURE_SETS["closes"]))
    known = audit.make()
    for check in (check_cut_off, check_changed):
        found = check(audit, known, 6)
        assert found.status == "failed", found
    assert len(known.sessions) == SESSIONS


def test_a_reach_that_is_too_short_for_the_series_is_caught(xnys: Calendar) -> None:
    features = replace(with_context(FEATURE_SETS["alstm11"], SERIES), reach=30)
    audit = audit_with(xnys, features, "carry")
    assert check_reach(audit, audit.make(), 6).status == "failed"
