"""Forecast a session with the champion, seal the rows, settle those whose session has come, replay old ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.evening.explain import explain_forecasts
from flows.prices.update import PriceStatus
from flows.runtime.context import Run, with_former_settings
from flows.runtime.custom_code import find_changed, require_same_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.runtime.tracking import tracking
from flows.training.history import History, make_sequences
from flows.training.load_models import load_model
from flows.training.per_symbol import arrange
from models.ensembles.model_files import read_metadata, verify
from pipeline.errors import InputError, NextdayError
from pipeline.evaluation.horizons import NEXT
from pipeline.forecasting.forecast import forecast
from pipeline.schema import FORECAST_KEY
from pipeline.tracking.registry import RegisteredModel

__all__ = ["Replay", "catch_up", "champion_known_at", "forecast_session", "known_horizons", "replay", "seal"]


@task("forecast", run_name="forecast from {as_of:%Y-%m-%d}")
def forecast_session(run: Run, as_of: pd.Timestamp, seq: int, champion: RegisteredModel) -> pd.DataFrame:
    """Forecast the sessions after `as_of` for every symbol with a whole window, as far ahead as is configured.

    What the champion did not learn it does not forecast; what the settings do not ask for any more is left out.

    Returns:
        schema.FORECASTS without `kind`, which the ledger decides, and `issued_at`.

    Raises:
        ModelError: the champion's files are missing or damaged.
    """
    verify(champion.directory, champion.model_version)
    feature_set, first, horizons = _inputs(run, champion.directory, as_of)
    known = make_sequences(run, as_of, seq, feature_set, first, horizons)
    fitted = _load(run, champion, known)
    rows = _forecast(run, known, champion, fitted)
    rows = rows[rows["horizon"].isin(run.config.labels.horizons)].reset_index(drop=True)
    # Before they are sealed: whoever does a killed evening again finds nothing of it to explain once its rows stand.
    explain_forecasts(run, fitted, known, rows)
    return rows


@task("seal", run_name="seal forecasts from {as_of:%Y-%m-%d}")
def seal(run: Run, rows: pd.DataFrame, as_of: pd.Timestamp, observed_at: pd.Timestamp) -> pd.DataFrame:
    """Write the rows into the ledger; rows that stand already stay.

    Returns:
        The standing rows (schema.FORECASTS and is_new).
    """
    rows = rows.assign(issued_at=pd.Series(run.clock(), index=rows.index, dtype="datetime64[us, UTC]"))
    next_open = run.calendar.opens[run.calendar.next_session(as_of)].to_pydatetime()
    standing = run.ledger.issue(
        rows,
        universe=run.name,
        opens={as_of: next_open},
        newest_observed_at=observed_at.to_pydatetime(),
        historical=run.is_historical or run.is_simulated,
    )
    new = int(standing["is_new"].sum())
    old = len(standing) - new
    log_line(
        f"sealed {new} forecasts from {as_of:%Y-%m-%d}" + (f"; {old} stood already and stay" if old else "")
    )
    return standing


@task("catch up")
def catch_up(run: Run, market: PriceStatus, champions: list[RegisteredModel]) -> list[str]:
    """Forecast the sessions that were missed, each with a model that was known by then.

    Args:
        run: The run.
        market: How far the prices reach.
        champions: The registered models, newest first; only what was once champion is asked.

    Returns:
        A remark for each session that could not be caught up.
    """
    last = run.ledger.last_as_of(run.name)
    if last is None:
        return []
    since = run.calendar.sessions_between(last, market.as_of)
    missed = since[(since > last) & (since < market.as_of)]
    found = [_catch_up_one(run, session, market, champions) for session in missed]
    return [remark for remark in found if remark]


@dataclass(frozen=True, eq=False)
class Replay:
    """Standing rows beside the same rows made again: symbol, horizon, p_up, replayed, difference, same_direction."""

    rows: pd.DataFrame

    @property
    def is_same(self) -> bool:
        """Whether every p_up agrees within 1e-6 and every direction exactly."""
        return bool((self.rows["difference"].abs() <= 1e-6).all() and self.rows["same_direction"].all())


def replay(run: Run, as_of: pd.Timestamp) -> Replay:
    """Make the sealed champion rows of a session again, from the data, model and settings they name.

    Raises:
        InputError: there is no such forecast.
        NextdayError: something that it was made of is gone.
    """
    standing = run.ledger.forecasts(run.name, as_of=as_of)
    standing = standing[standing["role"] == "champion"]
    if standing.empty:
        raise InputError(
            f"The ledger has no forecast of {run.name!r} from {as_of:%Y-%m-%d}",
            where=str(run.workspace.ledger),
            fix="`nextday ledger show` lists the sessions; SESSION is the as_of, the last session used",
        )
    parts = []
    made_of = ["model_version", "data_version", "config_digest"]
    for rows in [rows for _, rows in standing.groupby(made_of)]:
        version, seq, settings = rows[made_of].iloc[0]
        model = tracking(run).version(run.name, version)
        verify(model.directory, version)
        former = with_former_settings(run, settings)
        known = make_sequences.fn(former, as_of, int(seq), *_inputs(former, model.directory, as_of))
        again = _forecast(former, known, model, _load(former, model, known))
        parts.append(rows.merge(again, on=FORECAST_KEY, how="left", suffixes=("", "_again")))
    both = pd.concat(parts, ignore_index=True)
    return Replay(
        pd.DataFrame(
            {
                "symbol": both["symbol"],
                "horizon": both["horizon"],
                "p_up": both["p_up"],
                "replayed": both["p_up_again"],
                "difference": (both["p_up_again"] - both["p_up"]).fillna(np.inf),
                "same_direction": both["direction"] == both["direction_again"],
            }
        )
    )


def _load(run: Run, champion: RegisteredModel, known: History) -> Any:
    return arrange(load_model(champion.directory, run.base), run, known.sequences.symbols)


def _forecast(run: Run, known: History, champion: RegisteredModel, fitted: Any) -> pd.DataFrame:
    if champion.trained_through > known.as_of:
        raise NextdayError(
            f"The model {champion.model_version} was trained through {champion.trained_through:%Y-%m-%d}: it knows "
            f"what happened after {known.as_of:%Y-%m-%d}",
            where=str(champion.directory),
            fix="a session is only forecast with a model that was known by then",
        )
    last = len(known.sequences.sessions) - 1
    rows = forecast(fitted, known.sequences, range(last, last + 1), run.calendar)
    column = pd.Index(known.sequences.symbols).get_indexer(pd.Index(rows["symbol"]))
    horizon = pd.Index(known.sequences.horizons).get_indexer(pd.Index(rows["horizon"]))
    rows["horizon"] = rows["horizon"].astype("int64")
    return rows.assign(
        # One base rate a horizon, or one a symbol and horizon.
        baseline_p_up=np.broadcast_to(fitted.base_rate, known.sequences.y[:, 0].shape)[column, horizon],
        last_close=known.panel.last_close[-1, column],
        model_version=champion.model_version,
        data_version=known.seq,
        config_digest=run.digest,
        role="champion",
    ).astype({"model_version": "str", "config_digest": "str", "role": "str", "data_version": "int64"})


def champion_known_at(models: list[RegisteredModel], session: pd.Timestamp) -> RegisteredModel | None:
    """Return the first of `models`, newest first, that was once promoted and whose labels were known at `session`."""
    known = (m for m in models if m.promoted_at is not None and m.trained_through <= session)
    return next(known, None)


def _catch_up_one(
    run: Run, session: pd.Timestamp, market: PriceStatus, champions: list[RegisteredModel]
) -> str | None:
    known_then = champion_known_at(champions, session)
    if known_then is None:
        return f"{session:%Y-%m-%d} was missed and stays so: no model was trained by then"
    verify(known_then.directory, known_then.model_version)
    if find_changed(run, read_metadata(known_then.directory)["extra"]):
        return f"{session:%Y-%m-%d} was missed and stays so: the model known by then learned from other code of yours"
    rows = forecast_session(run, session, market.seq, known_then)
    if rows.empty:
        return f"{session:%Y-%m-%d} was missed and stays so: no symbol has a whole window there"
    seal(run, rows, session, market.observed_at)
    return None


def known_horizons(directory: Path) -> tuple[int, ...]:
    """Return how many sessions ahead a model forecasts, in the order of what it answers."""
    labels = read_metadata(directory)["extra"]["settings"]["labels"]
    return tuple(labels.get("horizons", [NEXT]))  # before there was a choice, it was the next session


def _inputs(run: Run, directory: Path, as_of: pd.Timestamp) -> tuple[str, pd.Timestamp, tuple[int, ...]]:
    """Return the features that a model reads, the first session that it reads from `as_of`, and how far it looks."""
    facts, horizons = read_metadata(directory), known_horizons(directory)
    require_same_code(run, facts["extra"], directory)
    if facts["extra"].get("start"):
        return str(facts["extra"]["features"]), pd.Timestamp(facts["extra"]["start"]), horizons
    window = int(facts["extra"]["settings"]["model"]["lookback"])
    first = run.calendar.sessions[max(run.calendar.position(as_of) - window + 1, 0)]
    return str(facts["extra"]["features"]), first, horizons
