"""Forecast a session with the champion, seal the rows, backfill missed sessions, and replay sealed ones."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from flows.evening.decay import stop_directions
from flows.evening.explain import explain_forecasts
from flows.prices.update import PriceStatus
from flows.runtime.context import Run, with_former_settings
from flows.runtime.custom_code import find_changed, require_same_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import History, make_sequences
from flows.training.load_models import load_model
from flows.training.per_symbol import arrange
from flows.training.verified_champion import Champion, Champions
from pipeline.errors import InputError, NextdayError
from pipeline.features.columns import FeatureSet
from pipeline.forecasting.forecast import forecast
from pipeline.ledger.ledger import UniverseRecord
from pipeline.outputs import Output, describe_outputs, select_main
from pipeline.schema import FORECAST_KEY

__all__ = [
    "Inputs",
    "Replay",
    "catch_up",
    "describe_opens",
    "find_as_of",
    "forecast_challenger",
    "forecast_late",
    "forecast_session",
    "issue",
    "replay",
    "seal",
]


class Inputs:
    """The sequences of one session, made once for all models that read the same.

    Args:
        run: The run.
        as_of: The session.
        price_status: How far the prices reach.
    """

    def __init__(self, run: Run, as_of: pd.Timestamp, price_status: PriceStatus) -> None:
        self.run, self.as_of, self.price_status = run, as_of, price_status
        self._made: dict[object, History] = {}

    def of(self, model: Champion) -> History:
        """Return what a model reads.

        Raises:
            NextdayError: the custom code that it was made with has changed, or the settings lack what it reads.
        """
        features, first, outputs = _inputs(self.run, self.as_of, model)
        key = (model.features, model.added, model.sectors, first, outputs)
        if key not in self._made:
            status = self.price_status
            self._made[key] = make_sequences(
                self.run, self.as_of, status.seq, features, first, outputs, status.bars
            )
        return self._made[key]


@task("forecast", run_name="forecast from {as_of:%Y-%m-%d}")
def forecast_session(
    run: Run,
    as_of: pd.Timestamp,
    price_status: PriceStatus,
    champion: Champion,
    inputs: Inputs | None = None,
) -> pd.DataFrame:
    """Forecast the configured outputs from `as_of`, for every symbol with a complete window.

    Outputs that the champion did not learn are not forecast; those no longer configured are left out.

    Returns:
        schema.FORECASTS without `kind`, which the ledger decides, and `issued_at`.

    Raises:
        ModelError: the champion's files cannot be read.
        NextdayError: the custom code that the champion was made with has changed, or it learned none of the configured
            outputs.
    """
    _require_outputs(run, champion)
    known = (inputs or Inputs(run, as_of, price_status)).of(champion)
    fitted = _load(run, champion, known)
    rows = _forecast_configured(run, known, champion, fitted)
    # Before they are sealed: a run that resumes a killed one makes no sealed row again, so it could not explain it.
    explain_forecasts(run, fitted, known, rows)
    return rows


def forecast_challenger(inputs: Inputs, model: Champion) -> pd.DataFrame:
    """Forecast the same outputs with a challenger: rows like those of `forecast_session`, in its role.

    Raises:
        ModelError: its files cannot be read.
        NextdayError: its custom code has changed, or it learned none of the configured outputs.
    """
    _require_outputs(inputs.run, model)
    known = inputs.of(model)
    return _forecast_configured(inputs.run, known, model, _load(inputs.run, model, known), "challenger")


def forecast_late(inputs: Inputs, model: Champion) -> pd.DataFrame:
    """Forecast the same outputs as `forecast_session`, for rows that are added to those of an earlier evening.

    Their attributions are not saved: those of that evening stay.

    Raises:
        ModelError: its files cannot be read.
        NextdayError: its custom code has changed, or it learned none of the configured outputs.
    """
    _require_outputs(inputs.run, model)
    known = inputs.of(model)
    return _forecast_configured(inputs.run, known, model, _load(inputs.run, model, known))


@task("seal", run_name="seal forecasts from {as_of:%Y-%m-%d}")
def seal(
    run: Run, record: UniverseRecord, rows: pd.DataFrame, as_of: pd.Timestamp, observed_at: pd.Timestamp
) -> pd.DataFrame:
    """Write the rows into the ledger; rows that are sealed already are kept.

    Returns:
        The sealed rows (schema.FORECASTS and is_new).
    """
    standing = issue(run, record, rows, as_of, observed_at)
    new = int(standing["is_new"].sum())
    old = len(standing) - new
    log_line(
        f"sealed {new} forecasts from {as_of:%Y-%m-%d}"
        + (f"; {old} were sealed before and stay" if old else "")
    )
    return standing


def issue(
    run: Run, record: UniverseRecord, rows: pd.DataFrame, as_of: pd.Timestamp, observed_at: pd.Timestamp
) -> pd.DataFrame:
    """Write the rows of any role into the ledger at the run's clock; see `Ledger.issue`."""
    return record.issue(
        rows.assign(issued_at=pd.Series(run.clock(), index=rows.index, dtype="datetime64[us, UTC]")),
        opens={as_of: run.calendar.opens[run.calendar.next_session(as_of)].to_pydatetime()},
        newest_observed_at=observed_at.to_pydatetime(),
        historical=run.is_historical or run.is_simulated,
    )


@task("catch up")
def catch_up(run: Run, price_status: PriceStatus, record: UniverseRecord, champions: Champions) -> list[str]:
    """Forecast the missed sessions, each with a model that was known by then.

    Args:
        run: The run.
        price_status: How far the prices reach.
        record: The universe's part of the ledger.
        champions: The registered models; only those that were once champion forecast.

    Returns:
        A remark on each session that could not be caught up.
    """
    last = record.last_as_of
    if last is None:
        return []
    since = run.calendar.sessions_between(last, price_status.as_of)
    missed = since[(since > last) & (since < price_status.as_of)]
    remarks = [_catch_up_session(run, session, price_status, record, champions) for session in missed]
    return [remark for remark in remarks if remark]


@dataclass(frozen=True, eq=False)
class Replay:
    """Sealed rows next to the same rows made again: symbol, target, horizon, p_up, replayed, difference,
    same_direction."""

    rows: pd.DataFrame

    @property
    def is_same(self) -> bool:
        """Whether every p_up agrees within 1e-6 and every direction exactly."""
        return bool((self.rows["difference"].abs() <= 1e-6).all() and self.rows["same_direction"].all())


def replay(run: Run, as_of: pd.Timestamp) -> Replay:
    """Make the sealed champion rows of a session again, from the data, model and settings they name.

    Raises:
        InputError: there is no such forecast.
        NextdayError: the data, model or settings that it was made from are gone.
    """
    standing = run.ledger.forecasts(run.name, as_of=as_of)
    standing = standing[standing["role"] == "champion"]
    if standing.empty:
        raise InputError(
            f"The ledger has no forecast of {run.name!r} from {as_of:%Y-%m-%d}",
            where=str(run.workspace.ledger),
            fix="`nextday ledger show` lists the sessions; SESSION is the as_of, the last session used",
        )
    parts, champions = [], Champions(run)
    made_of = ["model_version", "data_version", "config_digest"]
    for rows in [rows for _, rows in standing.groupby(made_of)]:
        version, seq, settings = rows[made_of].iloc[0]
        former, champion = with_former_settings(run, settings), champions.version(version)
        run.store.require_version(int(seq))
        known = make_sequences.fn(former, as_of, int(seq), *_inputs(former, as_of, champion))
        again = _forecast(former, known, champion, _load(former, champion, known))
        parts.append(rows.merge(again, on=FORECAST_KEY, how="left", suffixes=("", "_again")))
    return _compare(pd.concat(parts, ignore_index=True))


def _compare(both: pd.DataFrame) -> Replay:
    """Compare sealed columns with those of the same name and `_again`."""
    return Replay(
        pd.DataFrame(
            {
                "symbol": both["symbol"],
                "target": both["target"],
                "horizon": both["horizon"],
                "p_up": both["p_up"],
                "replayed": both["p_up_again"],
                "difference": (both["p_up_again"] - both["p_up"]).fillna(np.inf),
                "same_direction": both["direction"] == both["direction_again"],
            }
        )
    )


def _load(run: Run, champion: Champion, known: History) -> Any:
    return arrange(load_model(champion, run.base), run, known.sequences.symbols)


def _forecast(
    run: Run, known: History, champion: Champion, fitted: Any, role: str = "champion"
) -> pd.DataFrame:
    if champion.trained_through > known.as_of:
        raise NextdayError(
            f"The model {champion.version} was trained through {champion.trained_through:%Y-%m-%d}: it knows "
            f"what happened after {known.as_of:%Y-%m-%d}",
            where=str(champion.directory),
            fix="a session is only forecast with a model that was known by then",
        )
    last = len(known.sequences.sessions) - 1
    rows = forecast(fitted, known.sequences, range(last, last + 1), run.calendar)
    column = pd.Index(known.sequences.symbols).get_indexer(pd.Index(rows["symbol"]))
    output = known.sequences.outputs_of(rows)
    made = rows.assign(
        # The base rate is per output (pooled model), or per symbol and output (per-symbol models).
        baseline_p_up=np.broadcast_to(fitted.base_rate, known.sequences.y[:, 0].shape)[column, output],
        last_close=known.panel.last_close[-1, column],
        model_version=champion.version,
        data_version=known.seq,
        config_digest=run.digest,
        role=role,
    ).astype({"model_version": "str", "config_digest": "str", "role": "str", "data_version": "int64"})
    return stop_directions(run, made)


def _forecast_configured(
    run: Run, known: History, champion: Champion, fitted: Any, role: str = "champion"
) -> pd.DataFrame:
    rows = _forecast(run, known, champion, fitted, role)
    wanted = [place for place, each in enumerate(champion.outputs) if each in run.config.labels.outputs]
    return rows[np.isin(known.sequences.outputs_of(rows), wanted)].reset_index(drop=True)


def describe_opens(champion: Champion) -> str:
    """Return what else a forecast may lack, for the middle of a sentence; empty where no output needs opens."""
    return ", or real opens" if any(output.needs_open for output in champion.outputs) else ""


def _require_outputs(run: Run, champion: Champion) -> None:
    if not {*champion.outputs} & {*run.config.labels.outputs}:
        asked, learned = (describe_outputs([*each]) for each in (run.config.labels.outputs, champion.outputs))
        raise NextdayError(
            f"The model forecasts {learned}, and the settings ask for {asked}",
            where="[labels] targets",
            fix="`nextday retrain` trains a champion for them",
        )


def _catch_up_session(
    run: Run, session: pd.Timestamp, price_status: PriceStatus, record: UniverseRecord, champions: Champions
) -> str | None:
    """Forecast and seal one missed session, or return why not."""
    missed = f"{session:%Y-%m-%d} was missed and cannot be caught up"
    champion = champions.known_at(session)
    if champion is None:
        return f"{missed}: no model was trained by then"
    if find_changed(run, champion.code):
        return f"{missed}: the model known by then was trained with an older version of your code"
    if not {*champion.outputs} & {*run.config.labels.outputs}:
        return f"{missed}: the model known by then was not trained for the configured targets"
    if lacking := champion.find_lacking(run):
        return f"{missed}: the model known by then reads {lacking}"
    rows = forecast_session(run, session, price_status, champion)
    if rows.empty:
        return f"{missed}: no symbol has a complete window there{describe_opens(champion)}"
    seal(run, record, rows, session, price_status.observed_at)
    return None


def _inputs(
    run: Run, as_of: pd.Timestamp, champion: Champion
) -> tuple[FeatureSet, pd.Timestamp, tuple[Output, ...]]:
    """Return the champion's features, the first session that it reads to forecast from `as_of`, and its outputs."""
    require_same_code(run, champion.code, champion.directory)
    first = champion.start
    if first is None:
        first = run.calendar.sessions[max(run.calendar.position(as_of) - champion.lookback + 1, 0)]
    return champion.feature_set(run), first, champion.outputs


def find_as_of(run: Run, day: date) -> pd.Timestamp:
    """Return `day` where forecasts were made from it, else the as_of of those whose target session it is.

    Raises:
        InputError: it is no session.
    """
    session = pd.Timestamp(day)
    if run.ledger.forecasts(run.name, as_of=session).empty:
        targeting = select_main(run.ledger.forecasts(run.name, target_session=session))["as_of"]
        if len(targeting):  # also for a day that turned out closed
            return pd.Timestamp(targeting.max())
        run.calendar.position(session)
    return session
