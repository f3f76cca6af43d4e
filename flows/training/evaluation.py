"""What the score of a training came to, and the files it is kept in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from flows.training.history import History
from pipeline.errors import StoreError
from pipeline.evaluation.horizons import NEXT, split_group
from pipeline.evaluation.network_insight import Insight, load_insight, save_insight
from pipeline.evaluation.verdict import Verdict
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import choose_directions
from pipeline.storage.files import write_bytes, write_text

__all__ = ["Evaluation", "load_evaluation", "range_table", "save_evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the training of one model found out about its procedure.

    Attributes:
        scores: schema.SCORES.
        verdict: On the next session, in words, with its evidence.
        test_rows: Every forecast of the test, the baselines' too.
        epochs: fit, member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: How history was cut: fit, part, first_session, last_session, sessions, rows.
        further: The verdicts on the farther horizons, by horizon.
        insight: What the network of the scoring fit looks at; None where that is not kept.
    """

    scores: pd.DataFrame
    verdict: Verdict
    test_rows: pd.DataFrame
    epochs: pd.DataFrame
    ranges: pd.DataFrame
    further: Mapping[int, Verdict] = field(default_factory=dict)
    insight: Insight | None = None


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation beside its model."""
    for name in ("scores", "epochs", "ranges"):
        write_text(folder / f"{name}.csv", getattr(evaluation, name).to_csv(index=False))
    write_bytes(folder / "test_rows.parquet", evaluation.test_rows.to_parquet(index=False))
    if evaluation.insight:
        save_insight(folder, evaluation.insight)
    write_text(folder / "verdict.json", json.dumps(evaluation.verdict.to_json(), indent=1) + "\n")
    further = {horizon: verdict.to_json() for horizon, verdict in evaluation.further.items()}
    if further:
        write_text(folder / _FARTHER, json.dumps(further, indent=1) + "\n")


_FARTHER = "verdicts_farther.json"
"""Only where the model looks beyond the next session."""


def load_evaluation(folder: Path) -> Evaluation:
    """Read what `save_evaluation` kept.

    Raises:
        StoreError: a file is missing or damaged.
    """
    try:
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("scores", "epochs", "ranges")}
        tables["scores"] = _complete_scores(tables["scores"])
        for name in ("first_session", "last_session"):
            tables["ranges"][name] = pd.to_datetime(tables["ranges"][name])
        verdict = Verdict.from_json(json.loads((folder / "verdict.json").read_text(encoding="utf-8")))
        test_rows = pd.read_parquet(folder / "test_rows.parquet")
        if "direction" not in test_rows:  # written before a forecast could take no side
            test_rows["direction"] = choose_directions(test_rows["p_up"].to_numpy())
        farther = folder / _FARTHER if (test_rows["horizon"] > NEXT).any() else None
        stored = json.loads(farther.read_text(encoding="utf-8")) if farther else {}
        further = {int(horizon): Verdict.from_json(facts) for horizon, facts in stored.items()}
        insight = load_insight(folder)
        return Evaluation(**tables, verdict=verdict, test_rows=test_rows, further=further, insight=insight)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"The evaluation of the champion cannot be read: {error}",
            where=str(folder),
            fix="`nextday retrain` makes a new champion and a new evaluation",
        ) from None


def _complete_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Add to scores of an earlier version what it did not keep: effective_n, and the horizon apart from the group."""
    if "effective_n" not in scores:
        scores = scores.assign(effective_n=np.nan)
    if "horizon" not in scores:
        group, horizon = zip(*scores["group"].map(split_group), strict=True) if len(scores) else ((), ())
        scores = scores.assign(group=list(group), horizon=np.array(horizon, np.int64))
    return scores


def range_table(known: History, folds: dict[str, Fold]) -> pd.DataFrame:
    """Return how history was cut, one line a fit and part."""
    sessions, labelled = (
        known.sequences.sessions,
        np.isfinite(known.sequences.y).any(axis=2) & known.sequences.mask,
    )
    return pd.DataFrame(
        {
            "fit": name,
            "part": part,
            "first_session": sessions[rows.start],
            "last_session": sessions[rows.stop - 1],
            "sessions": len(rows),
            "rows": int(labelled[:, rows.start : rows.stop].sum()),
        }
        for name, fold in folds.items()
        for part, rows in fold.parts.items()
        if len(rows)
    )
