"""An evaluation reads back as it was saved, also by an older version of nextday."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.training.evaluation import Evaluation, load_evaluation, save_evaluation
from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import judge
from pipeline.forecasting.forecast import choose_directions
from pipeline.schema import SCORES, validated
from tests.pipeline.evaluation.test_scores import stack, truth


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Evaluation]:
    keys, p = truth(80, 3, seed=51, signal=0.05)
    rows = stack(keys, gru=p, base_rate=0.53)
    ranges = pd.DataFrame({"fit": "score", "part": ["test"], "first_session": [pd.Timestamp("2015-01-05")]})
    evaluation = Evaluation(
        scores=score(rows, baseline="base_rate", draws=20),
        verdict=judge(rows, model="gru", baseline="base_rate", draws=20),
        test_rows=rows.assign(direction=choose_directions(rows["p_up"].to_numpy()).to_numpy()),
        epochs=pd.DataFrame({"fit": ["score"], "epoch": [1], "loss": [0.69]}),
        ranges=ranges.assign(last_session=pd.Timestamp("2015-04-24")),
        figures={"training": "<svg>Verläufe</svg>"},
    )
    save_evaluation(tmp_path, evaluation)
    return tmp_path, evaluation


def test_an_evaluation_is_read_as_it_was_kept(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    read = load_evaluation(folder)
    pd.testing.assert_frame_equal(validated(read.scores, SCORES), evaluation.scores)
    assert read.verdict == evaluation.verdict
    assert read.figures == evaluation.figures


def test_a_stored_verdict_keeps_the_keys_of_earlier_versions(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    stored = json.loads((folder / "verdict.json").read_text())
    keys = "finding sentence model baseline difference low high p_value n sessions"
    assert list(stored) == [*keys.split(), "skills"]
    assert stored["finding"] == evaluation.verdict.conclusion


def test_scores_whose_group_named_the_horizon_are_read_with_a_column_of_it(
    kept: tuple[Path, Evaluation],
) -> None:
    folder, evaluation = kept
    groups = {
        "all": ("all", 1),
        "large moves": ("large moves", 1),
        "5 sessions ahead": ("all", 5),
        "sides taken, 20 sessions ahead": ("sides taken", 20),
    }
    plain = evaluation.scores.drop(columns="horizon")
    old = pd.concat([plain.assign(group=name) for name in groups])
    (folder / "scores.csv").write_text(old.to_csv(index=False))
    read = load_evaluation(folder).scores
    keys = read[["group", "horizon"]].drop_duplicates()
    assert [*keys.itertuples(index=False, name=None)] == [*groups.values()]
    first = read[(read["group"] == "all") & (read["horizon"] == 1)]
    pd.testing.assert_frame_equal(validated(first, SCORES), evaluation.scores)


def test_scores_of_before_the_effective_n_was_kept_are_read_without_it(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    six = ["hit_rate", "mcc", "brier", "brier_skill", "log_loss", "auc"]
    old = evaluation.scores[evaluation.scores["metric"].isin(six)].drop(columns="effective_n")
    (folder / "scores.csv").write_text(old.to_csv(index=False))
    read = validated(load_evaluation(folder).scores, SCORES)
    assert read["effective_n"].isna().all()
    assert np.array_equal(read["n"], old["n"])
