"""The names of metrics in MLflow."""

import pandas as pd
import pytest

from pipeline.tracking.mlflow_metrics import list_params, measure_scores
from tests.pipeline.tracking.test_runs import scores

pytestmark = pytest.mark.slow


def test_the_models_values_stand_in_front_and_keep_their_names() -> None:
    keys = [("all", 1), ("large moves", 1), ("all", 5), ("late, sides taken", 20)]
    lines = [scores().head(1).assign(group=group, horizon=horizon) for group, horizon in keys]
    names = [name for name, _, _ in measure_scores(pd.concat(lines), "gru")]
    assert names[:4] == [
        "gru.hit_rate",
        "large moves/gru.hit_rate",
        "5 sessions ahead/gru.hit_rate",
        "late_ sides taken_ 20 sessions ahead/gru.hit_rate",
    ]
    assert names[4:6] == ["details/gru.hit_rate.low", "large moves/details/gru.hit_rate.low"]


def test_baselines_and_details_are_groups_of_their_own() -> None:
    lines = [scores().head(1).assign(model=model) for model in ("gru", "momentum", "base_rate")]
    names = [name for name, _, _ in measure_scores(pd.concat(lines), "gru")]
    assert names[:3] == ["gru.hit_rate", "baselines/momentum.hit_rate", "baselines/base_rate.hit_rate"]
    assert all(name.startswith("details/") for name in names[3:])
    assert len({*names}) == len(names) == 3 * 7


def test_a_table_by_symbol_is_one_parameter_for_mlflow_allows_no_caret_in_a_name() -> None:
    settings = {"context": {"lag": {"^VIX": "15 minutes", "EURUSD=X": "1 session"}, "missing": "mask"}}
    assert list(list_params(settings)) == [
        ("context.lag", "{'^VIX': '15 minutes', 'EURUSD=X': '1 session'}"),
        ("context.missing", "mask"),
    ]
    assert list(list_params({"universe": {"source_options": {"table": "bars"}}})) == [
        ("universe.source_options.table", "bars")
    ]
