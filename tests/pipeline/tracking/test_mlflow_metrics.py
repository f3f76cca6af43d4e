"""The names of metrics in MLflow."""

import pandas as pd
import pytest

from pipeline.tracking.mlflow_metrics import measure_scores
from tests.pipeline.tracking.test_runs import scores

pytestmark = pytest.mark.slow


def test_the_names_of_scores_in_mlflow_stay_what_they_were() -> None:
    keys = [("all", 1), ("large moves", 1), ("all", 5), ("late, sides taken", 20)]
    lines = [scores().head(1).assign(group=group, horizon=horizon) for group, horizon in keys]
    names = [name for name, _, _ in measure_scores(pd.concat(lines))]
    assert names[:4] == [
        "gru.hit_rate",
        "large moves/gru.hit_rate",
        "5 sessions ahead/gru.hit_rate",
        "late_ sides taken_ 20 sessions ahead/gru.hit_rate",
    ]
    assert names[4] == "gru.hit_rate.low"
