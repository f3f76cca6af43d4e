"""The decay alarm of an evening: what the live record says, what explains it, and whether directions are stopped."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.training.evaluation import load_evaluation
from flows.training.history import make_sequences
from flows.training.verified_champion import Champion
from models.ensembles.model_files import model_version
from pipeline.errors import NextdayError, StoreError
from pipeline.evaluation.verdict import BASE_RATE
from pipeline.ledger.ledger import UniverseRecord
from pipeline.monitoring.acceptance import accepted_at, read_acceptances
from pipeline.monitoring.decay import FEWEST, Decay, judge_decay, measure_floor
from pipeline.monitoring.drift import describe_drift, measure_drift
from pipeline.outputs import Output, list_outputs, name_key, read_key
from pipeline.storage.files import write_text
from pipeline.tracking.registry import Registry

__all__ = ["explain_decay", "judge_record", "stop_decayed", "stop_directions"]

_STOPPED: Final = "stopped"
"""The key of the resolved settings with the outputs that get no direction: their digest is sealed with every row."""


def judge_record(run: Run, record: UniverseRecord) -> list[Decay]:
    """Return what the alarm says of each output of the live record; nothing for a historical source, which has none.

    A simulation has no live row either: there those are tested that were issued before the next session opened, by the
    simulated clock, as a live row must be. Sessions that were caught up and members added later do not count.
    Acceptances that cannot be read do not count: an alarm stands rather than being forgotten.
    """
    if run.is_historical and not run.in_simulation:
        return []
    try:
        acceptances = read_acceptances(run.workspace.alarms(run.name))
    except NextdayError as error:
        log_line(f"earlier alarms stand again. {error}")
        acceptances = []
    rows = record.rows
    live = _select_in_time(run, rows) if run.in_simulation else rows[rows["kind"] == "live"]
    # An output that is no longer forecast is no news any more.
    newest = live[live["as_of"] == live["as_of"].max()]
    outputs = list_outputs(newest) if len(newest) else list(run.config.labels.outputs)
    settled = live[live["outcome"].notna()]
    is_early = settled["as_of"].nunique() < FEWEST
    floors = {} if is_early else _read_floors(run, sorted({*settled["model_version"]}))
    return [
        judge_decay(
            live,
            output,
            {version: known.get(name_key(output), np.nan) for version, known in floors.items()},
            accepted_at=accepted_at(acceptances, output),
            is_simulated=run.in_simulation,
        )
        for output in outputs
    ]


def _select_in_time(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that were issued before the session after their as_of opened."""
    following = run.calendar.sessions.searchsorted(rows["as_of"], side="right")
    is_in_time = np.asarray(rows["issued_at"].array < run.calendar.opens.array[following], dtype=np.bool_)
    return rows[is_in_time]


def _read_floors(run: Run, versions: list[str]) -> dict[str, dict[str, float]]:
    """Return what the backtest of each champion promised at least, by output; measured once for each champion."""
    path = run.workspace.floors(run.name)
    try:
        known: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    lacking = [version for version in versions if version not in known]
    if lacking:
        registered = {
            each.model_version: each
            for each in Registry(run.workspace.home, model_version).versions(run.name)
        }
        for version in lacking:
            if version in registered and (
                measured := _measure_floors(run, version, registered[version].evaluation)
            ):
                known[version] = measured
        with suppress(NextdayError):  # they are measured again
            write_text(path, json.dumps(known, indent=1) + "\n")
    return {version: known[version] for version in versions if version in known}


def _measure_floors(run: Run, version: str, digests: Any) -> dict[str, float]:
    """Return what one backtest promised, by output; nothing where it is lost: the record is then tested without it."""
    try:
        evaluation = load_evaluation(run.workspace.evaluation(run.name, version), digests)
    except StoreError:
        return {}
    rows, model = evaluation.test_rows, evaluation.verdict.model
    return {
        name_key(output): measure_floor(rows, model, BASE_RATE, output)
        for output in list_outputs(rows[rows["model"] == model])
    }


def explain_decay(run: Run, as_of: pd.Timestamp, seq: int, champion: Champion, decays: list[Decay]) -> str:
    """Return whether the champion's inputs have drifted, in a sentence; empty where there is nothing to explain.

    Args:
        run: The run.
        as_of: The last session.
        seq: The version of the prices.
        champion: The model that forecasts.
        decays: What the alarm says.
    """
    if not any(decay.is_news for decay in decays):
        return ""
    try:
        known = make_sequences.fn(run, as_of, seq, champion.feature_set(run), None, champion.outputs)
        sequences = known.sequences
        trained = int(sequences.sessions.searchsorted(champion.trained_through, side="right"))
        return describe_drift(measure_drift(sequences.x, sequences.mask, list(sequences.features), trained))
    except Exception as error:  # an explanation must not cost the evening's report
        return f"Whether the inputs have drifted is not known: {getattr(error, 'what', '') or type(error).__name__}"


def stop_decayed(run: Run, record: UniverseRecord) -> Run:
    """Return the run whose settings stop the directions of decayed outputs, where [alarm] on_decay says so.

    The stop is part of the resolved settings: each row names their digest, the seal covers it, and a replay makes the
    row with the same settings.
    """
    if run.config.alarm.on_decay != "stop":
        return run
    stopped = [name_key(decay.output) for decay in judge_record(run, record) if decay.state == "decayed"]
    if not stopped:
        return run
    halted = replace(run, resolved={**run.resolved, _STOPPED: stopped})
    halted.save_settings()
    log_line(
        f"no direction is given for {', '.join(stopped)}: the live record has decayed; nextday alarm show tells why, "
        "nextday alarm accept goes on"
    )
    return halted


def stop_directions(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the champion's rows without a direction where the settings of the run stop their output."""
    stopped = {read_key(name) for name in run.resolved.get(_STOPPED, ())}
    if not stopped:
        return rows
    outputs = map(Output, rows["target"], rows["horizon"])
    is_stopped = np.array([output in stopped for output in outputs]) & (rows["role"] == "champion").to_numpy()
    return rows.assign(direction=rows["direction"].mask(is_stopped, "none"))
