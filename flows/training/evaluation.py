"""The evaluation of a training: its scores and verdicts, and the files that store them."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flows.runtime.context import Run
from flows.training.history import History
from pipeline.errors import StoreError
from pipeline.evaluation.context_gain import ContextGain
from pipeline.evaluation.network_insight import Insight, load_insight, save_insight
from pipeline.evaluation.verdict import BASE_RATE, Verdict
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import choose_directions
from pipeline.outputs import DIRECTION, Output, list_outputs, name_key, read_key, split_group
from pipeline.schema import FORECAST_KEY
from pipeline.storage.files import digest_files, write_bytes, write_text

__all__ = [
    "EPOCH_COLUMNS",
    "ESSENTIAL",
    "RANGE_COLUMNS",
    "Evaluation",
    "load_evaluation",
    "range_table",
    "read_test_rows",
    "save_evaluation",
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of scoring the procedure that made a model.

    Attributes:
        scores: schema.SCORES.
        verdict: On the first output, with its evidence.
        test_rows: Every forecast of the test range, those of the baselines too; read from files, of the baselines only
            the base rate and those that the verdicts name.
        epochs: fit, member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: How history was split: fit, part, first_session, last_session, sessions, rows.
        further: The verdicts on the further outputs.
        insight: Sensitivity, memory and feature importance of the scored network; None where not measured.
        figures: The figures that were drawn of it: SVG by name.
        context: What the context series brought; None where there are none.
    """

    scores: pd.DataFrame
    verdict: Verdict
    test_rows: pd.DataFrame
    epochs: pd.DataFrame
    ranges: pd.DataFrame
    further: Mapping[Output, Verdict] = field(default_factory=dict)
    insight: Insight | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    context: ContextGain | None = None


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write an evaluation to its model's folder."""
    for name in ("scores", "epochs", "ranges"):
        write_text(folder / f"{name}.csv", getattr(evaluation, name).to_csv(index=False))
    write_bytes(folder / "test_rows.parquet", _encode(evaluation.test_rows))
    for name, svg in evaluation.figures.items():
        write_text(folder / f"{name}.svg", svg)
    if evaluation.context:
        write_text(folder / _CONTEXT, json.dumps(evaluation.context.to_json(), indent=1) + "\n")
    if evaluation.insight:
        save_insight(folder, evaluation.insight)
    write_text(folder / "verdict.json", json.dumps(evaluation.verdict.to_json(), indent=1) + "\n")
    further = {name_key(output): verdict.to_json() for output, verdict in evaluation.further.items()}
    if further:
        write_text(folder / _FARTHER, json.dumps(further, indent=1) + "\n")


def _encode(rows: pd.DataFrame) -> bytes:
    """Return the rows as a Parquet file, encoded part by part: of many millions a second copy would not fit."""
    schema, file = pa.Schema.from_pandas(rows, preserve_index=False), io.BytesIO()
    with pq.ParquetWriter(file, schema) as writer:
        for first in range(0, max(len(rows), 1), _ROWS_AT_ONCE):
            part = rows.iloc[first : first + _ROWS_AT_ONCE]
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
    return file.getvalue()


_ROWS_AT_ONCE: Final = 1_000_000

_FARTHER = "verdicts_farther.json"
"""Exists only where the model has more than one output."""

_CONTEXT = "context.json"
"""Exists only where the model reads context series."""

ESSENTIAL: Final = ("scores.csv", "test_rows.parquet", "verdict.json", _FARTHER, _CONTEXT)
"""The files without which there is no evaluation; the others show what these hold, or how the network came to it."""

EPOCH_COLUMNS: Final = [
    "fit",
    "member",
    "epoch",
    "loss",
    "hit_rate",
    "stop_loss",
    "stop_hit_rate",
    "gradient_norm",
]
RANGE_COLUMNS: Final = ["fit", "part", "first_session", "last_session", "sessions", "rows"]


def load_evaluation(folder: Path, digests: Mapping[str, str] = MappingProxyType({})) -> Evaluation:
    """Read what `save_evaluation` wrote.

    Args:
        folder: The evaluation's folder.
        digests: The sha256 of each file, as the list of models holds them; none for an earlier nextday's.

    Raises:
        StoreError: a file is missing or damaged.
    """
    try:
        there = digest_files(folder) if digests else {}
        if changed := sorted(name for name, digest in digests.items() if there.get(name) != digest):
            raise ValueError(f"{', '.join(changed)} changed since the training, or missing")
        tables = {"scores": pd.read_csv(folder / "scores.csv")}
        for name, columns in (("epochs", EPOCH_COLUMNS), ("ranges", RANGE_COLUMNS)):
            file = folder / f"{name}.csv"  # of an old model it is gone
            tables[name] = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=columns)
        tables["scores"] = _complete_scores(tables["scores"])
        for name in ("first_session", "last_session"):
            tables["ranges"][name] = pd.to_datetime(tables["ranges"][name])
        verdict = Verdict.from_json(json.loads((folder / "verdict.json").read_text(encoding="utf-8")))
        path = folder / _FARTHER
        verdicts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        further = {read_key(key): Verdict.from_json(facts) for key, facts in verdicts.items()}
        told = [verdict, *further.values()]
        # Of ten methods a report shows the rows of these: with the others a large universe would not fit.
        names = sorted({BASE_RATE} | {each.model for each in told} | {each.baseline for each in told})
        test_rows = pd.read_parquet(folder / "test_rows.parquet", filters=[("model", "in", names)])
        if "target" not in test_rows:  # written before there were targets
            test_rows["target"] = DIRECTION
        if "direction" not in test_rows:  # written by a version without abstention
            test_rows["direction"] = choose_directions(test_rows["p_up"].to_numpy())
        if len(list_outputs(test_rows)) > 1 and not further:
            raise ValueError(f"{_FARTHER} is missing")
        return Evaluation(
            **tables,
            verdict=verdict,
            test_rows=test_rows,
            further=further,
            insight=load_insight(folder),
            context=_load_context(folder / _CONTEXT),
            figures={path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")},
        )
    except Exception as error:  # damaged files raise whatever their readers stumble over
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(
            f"The evaluation of the champion cannot be read: {reason:.300}",
            where=str(folder),
            fix="`nextday retrain` trains a new champion and evaluates it",
        ) from None


def read_test_rows(folder: Path, digests: Mapping[str, str], model: str) -> pd.DataFrame:
    """Read the test rows of one model.

    Args:
        folder: The evaluation's folder.
        digests: The sha256 of each of its files; none for an earlier nextday's.
        model: Its name in the rows.

    Returns:
        symbol, as_of, target_session, horizon, target, p_up, outcome.

    Raises:
        StoreError: the file is missing or damaged.
    """
    path, columns = folder / "test_rows.parquet", [*FORECAST_KEY, "p_up", "outcome"]
    try:
        listed = digests.get(path.name)
        if listed and hashlib.sha256(path.read_bytes()).hexdigest() != listed:
            raise ValueError("it changed since the training")
        known = pq.read_schema(path).names
        rows = pd.read_parquet(
            path, columns=[name for name in columns if name in known], filters=[("model", "==", model)]
        )
    except Exception as error:  # damaged files raise whatever their readers stumble over
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(
            f"The test of a model cannot be read: {reason:.300}",
            where=str(path),
            fix="`nextday retrain` trains a new model and evaluates it",
        ) from None
    rows = rows if "target" in rows else rows.assign(target=DIRECTION)
    return rows.astype({"symbol": "str", "target": "str", "horizon": "int64"})


def _load_context(path: Path) -> ContextGain | None:
    return ContextGain.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _complete_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Add to scores of an earlier version what it did not keep, and tell the horizon apart from the group."""
    if "effective_n" not in scores:
        scores = scores.assign(effective_n=np.nan)
    if "t_statistic" not in scores:
        scores = scores.assign(t_statistic=np.nan)
    if "horizon" not in scores:
        group, horizon = zip(*scores["group"].map(split_group), strict=True) if len(scores) else ((), ())
        scores = scores.assign(group=list(group), horizon=np.array(horizon, np.int64))
    return scores if "target" in scores else scores.assign(target=DIRECTION)


def range_table(run: Run, known: History, folds: dict[str, Fold]) -> pd.DataFrame:
    """Return how history was split, one row per fit and part; `refit` is what a second fit learns from."""
    again = run.config.training.refit and not run.config.model.is_custom
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
        for part, rows in _list_parts(fold, again).items()
        if len(rows)
    )


def _list_parts(fold: Fold, again: bool) -> dict[str, range]:
    refit = {"refit": range(fold.train.start, fold.calibrate.stop)} if again else {}
    return {**fold.parts, **refit, "test": fold.test}
