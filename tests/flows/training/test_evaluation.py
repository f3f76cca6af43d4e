"""An evaluation reads back as it was saved, also by an older version of nextday."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.training.evaluation import ESSENTIAL, Evaluation, load_evaluation, save_evaluation
from pipeline.errors import StoreError
from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import judge
from pipeline.forecasting.forecast import choose_directions
from pipeline.schema import SCORES, validated
from pipeline.storage.files import digest_files
from tests.pipeline.evaluation.test_scores import stack, truth


def made_evaluation() -> Evaluation:
    """Return the evaluation of three made-up symbols over 80 sessions."""
    keys, p = truth(80, 3, seed=51, signal=0.05)
    rows = stack(keys, gru=p, base_rate=0.53)
    ranges = pd.DataFrame({"fit": "score", "part": ["test"], "first_session": [pd.Timestamp("2015-01-05")]})
    return Evaluation(
        scores=score(rows, baseline="base_rate", draws=20),
        verdict=judge(rows, model="gru", baseline="base_rate", draws=20),
        test_rows=rows.assign(direction=choose_directions(rows["p_up"].to_numpy()).to_numpy()),
        epochs=pd.DataFrame({"fit": ["score"], "epoch": [1], "loss": [0.69]}),
        ranges=ranges.assign(last_session=pd.Timestamp("2015-04-24")),
        figures={"training": "<svg>Verläufe</svg>"},
    )


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Evaluation]:
    evaluation = made_evaluation()
    save_evaluation(tmp_path, evaluation)
    return tmp_path, evaluation


def test_an_evaluation_is_read_as_it_was_kept(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    read = load_evaluation(folder)
    pd.testing.assert_frame_equal(validated(read.scores, SCORES), evaluation.scores)
    assert read.verdict == evaluation.verdict
    assert read.figures == evaluation.figures


def test_without_what_is_not_essential_it_is_read_still(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    for path in folder.iterdir():
        if path.name not in ESSENTIAL:
            path.unlink()
    read = load_evaluation(folder, digest_files(folder))
    assert read.verdict == evaluation.verdict
    assert (read.figures, read.insight, len(read.epochs), len(read.ranges)) == ({}, None, 0, 0)
    with pytest.raises(StoreError, match=r"epochs\.csv"):
        load_evaluation(folder, {**digest_files(folder), "epochs.csv": "c0ffee"})


@pytest.mark.parametrize("name", ["scores.csv", "test_rows.parquet", "verdict.json", "training.svg"])
def test_an_edited_or_damaged_file_is_told_by_its_digest(kept: tuple[Path, Evaluation], name: str) -> None:
    folder, _ = kept
    digests = digest_files(folder)
    assert load_evaluation(folder, digests).figures
    content = bytearray((folder / name).read_bytes())
    for place in range(0, len(content), max(len(content) // 4, 1)):
        flipped = content.copy()
        flipped[place] ^= 1
        (folder / name).write_bytes(flipped)
        with pytest.raises(StoreError, match=name) as error:
            load_evaluation(folder, digests)
        assert "nextday retrain" in error.value.fix
    (folder / name).unlink()
    with pytest.raises(StoreError, match=name):
        load_evaluation(folder, digests)


def test_without_digests_damage_never_raises_another_error(kept: tuple[Path, Evaluation]) -> None:
    """The evaluation of an earlier version: a flip may go unnoticed, and must not end an evening."""
    folder, _ = kept
    for path in [*folder.iterdir()]:
        content = bytearray(path.read_bytes())
        for place in range(0, len(content), max(len(content) // 6, 1)):
            flipped = content.copy()
            flipped[place] ^= 16
            path.write_bytes(flipped)
            with suppress(StoreError):
                load_evaluation(folder)
        path.write_bytes(content)


def test_a_stored_verdict_keeps_the_keys_of_earlier_versions(kept: tuple[Path, Evaluation]) -> None:
    folder, evaluation = kept
    stored = json.loads((folder / "verdict.json").read_text())
    keys = "finding sentence model baseline difference low high p_value n sessions"
    assert list(stored) == [*keys.split(), "skills", "among", "compared", "recurrence"]
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
