"""Every check of features fails for the leak that it is meant to find, and for no set that nextday ships."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.feature_checks import (
    FeatureAudit,
    check_changed,
    check_cut_off,
    check_labels,
    check_order,
    check_reach,
)
from pipeline.audit.leakage_check import Check
from pipeline.features.columns import FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel, build_panel
from pipeline.prices.bar_block import Block
from tests.pipeline.audit.conftest import SESSIONS, SYMBOLS, audit_of

Column = Callable[[Panel], pd.DataFrame]


def log_return(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(np.log(panel.adj_close)).diff()


def planted(column: Column, reach: int = 10) -> FeatureSet:
    """Return a set of an honest column and one more."""
    return FeatureSet(
        "planted",
        ("log_return_1", "planted"),
        "log_return_1",
        reach,
        lambda panel, belongs: {"log_return_1": log_return(panel), "planted": column(panel)},
    )


def the_label(panel: Panel) -> pd.DataFrame:
    return (log_return(panel).shift(-1) > 0).astype(float).where(log_return(panel).notna())


def the_future_return(panel: Panel) -> pd.DataFrame:
    return log_return(panel).shift(-1).fillna(0.0).where(log_return(panel).notna())


def a_centred_mean(panel: Panel) -> pd.DataFrame:
    return log_return(panel).rolling(5, center=True, min_periods=1).mean()


def a_scale_of_everything(panel: Panel) -> pd.DataFrame:
    step = log_return(panel)
    return (step - step.mean()) / step.std()


def a_rank_over_all_sessions(panel: Panel) -> pd.DataFrame:
    return log_return(panel).rank(pct=True)


def a_fill_from_behind(panel: Panel) -> pd.DataFrame:
    return log_return(panel).where(log_return(panel) > 0).bfill().fillna(0.0).where(panel.has_bar)


LEAKS = [
    the_label,
    the_future_return,
    a_centred_mean,
    a_scale_of_everything,
    a_rank_over_all_sessions,
    a_fill_from_behind,
]


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("check", [check_cut_off, check_changed])
def test_a_feature_that_knows_later_bars_is_caught(
    block: Block, leak: Column, check: Callable[[FeatureAudit, object, int], Check]
) -> None:
    audit = audit_of(block, planted(leak))
    found = check(audit, audit.make(), 6)
    assert found.status == "failed"
    assert "planted" in found.evidence
    assert found.evidence.split()[0] in SYMBOLS
    assert pd.Timestamp(found.evidence.split()[1].rstrip(",:")) in block.sessions


@pytest.mark.parametrize("leak", [the_label, the_future_return])
@pytest.mark.parametrize("horizons", [(1,), (1, 5)])
def test_a_feature_that_predicts_the_label_is_caught(
    block: Block, leak: Column, horizons: tuple[int, ...]
) -> None:
    known = audit_of(block, planted(leak), horizons).make()
    found = check_labels(known, range(SESSIONS - 60))
    assert found.status == "failed"
    assert "planted ranks 100.0% of the pairs correctly, next session" in found.evidence


def test_a_future_that_comes_from_elsewhere_is_caught_by_the_label_alone(block: Block) -> None:
    tomorrow = the_future_return(build_panel(block))

    def from_a_file(panel: Panel) -> pd.DataFrame:
        rows = block.sessions.get_indexer(panel.sessions)
        columns = [block.symbols.index(symbol) for symbol in panel.symbols]
        return pd.DataFrame(tomorrow.to_numpy()[np.ix_(rows, columns)])

    audit = audit_of(block, planted(from_a_file))
    known = audit.make()
    assert check_cut_off(audit, known, 6).status == "passed"
    assert check_labels(known, range(SESSIONS)).status == "failed"


def a_place_among_the_others(panel: Panel) -> pd.DataFrame:
    return log_return(panel).fillna(0.0).cumsum(axis=1).where(panel.has_bar)


def chance(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng().normal(size=panel.close.shape))


@pytest.mark.parametrize("leak", [a_place_among_the_others, chance])
def test_a_feature_that_depends_on_order_or_chance_is_caught(block: Block, leak: Column) -> None:
    audit = audit_of(block, planted(leak))
    found = check_order(audit, audit.make())
    assert (found.status, "planted" in found.evidence) == ("failed", True)


def a_price(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(panel.adj_close)


def a_long_memory(panel: Panel) -> pd.DataFrame:
    return log_return(panel).ewm(halflife=20).mean()


@pytest.mark.parametrize("column", [a_price, a_long_memory])
def test_a_feature_that_needs_more_than_its_reach_is_caught(block: Block, column: Column) -> None:
    audit = audit_of(block, planted(column))
    known = audit.make()
    assert check_cut_off(audit, known, 6).status == "passed"
    found = check_reach(audit, known, 6)
    assert (found.status, "planted" in found.evidence) == ("failed", True)


def test_a_row_that_is_there_only_with_later_bars_is_named(block: Block) -> None:
    audit = audit_of(block, planted(lambda panel: log_return(panel).shift(-1)))
    found = check_cut_off(audit, audit.make(), 3)
    assert found.status == "failed"
    assert "the row is missing in the second computation" in found.evidence


@pytest.mark.parametrize("features", FEATURE_SETS)
@pytest.mark.parametrize("horizons", [(1,), (1, 5, 20)])
def test_the_shipped_features_pass_bit_for_bit(
    block: Block, features: str, horizons: tuple[int, ...]
) -> None:
    audit = audit_of(block, FEATURE_SETS[features], horizons)
    known = audit.make()
    for check in (check_cut_off, check_changed):
        found = check(audit, known, 6)
        assert (found.status, "bit for bit" in found.evidence) == ("passed", True), found
    assert check_reach(audit, known, 6).status == "passed"
    assert check_order(audit, known).status == "passed"
    assert check_labels(known, range(SESSIONS - 60)).status == "passed"


def test_a_history_shorter_than_the_reach_has_nothing_to_show(block: Block) -> None:
    audit = audit_of(block, planted(log_return, reach=SESSIONS))
    assert check_reach(audit, audit.make(), 6).status == "not applicable"
