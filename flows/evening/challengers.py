"""Challengers: they forecast beside the champion, and replace it when the settled forecasts say so."""

from dataclasses import dataclass

import pandas as pd

from flows.evening.forecasting import Inputs, forecast_challenger
from flows.runtime.context import Run
from flows.runtime.custom_code import require_named_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.champion import promote
from flows.training.evaluation import read_test_rows
from flows.training.verified_champion import Champion, Champions
from models.errors import ModelError
from pipeline.errors import InputError, NextdayError
from pipeline.ledger.ledger import UniverseRecord
from pipeline.monitoring.challenge import Comparison, Decision, Standing, compare, decide, pair_sessions
from pipeline.outputs import Output, list_outputs, select_output
from pipeline.storage.files import write_bytes
from pipeline.tracking.challengers import Challenger, ChallengerBook

__all__ = ["Contest", "decide_challengers", "forecast_challengers", "list_contests"]


@dataclass(frozen=True)
class Contest:
    """A challenger beside the champion: its model, and where it stands."""

    model: Champion
    standing: Standing


@task("forecast challengers")
def forecast_challengers(
    run: Run, inputs: Inputs, record: UniverseRecord, champions: Champions, champion: Champion
) -> list[str]:
    """Forecast with every challenger beside the champion's rows of the session, and seal its rows in their own role.

    Args:
        run: The run.
        inputs: The sequences of the session, those that the champion read.
        record: The universe's part of the ledger.
        champions: The registered models.
        champion: The model of the session's official rows.

    Returns:
        A remark on each challenger that made no forecast: that never costs the evening.
    """
    remarks = []
    for challenger in ChallengerBook(run.workspace.home).challengers(run.name):
        if challenger.model_version == champion.version:
            continue
        try:
            model = champions.version(challenger.model_version)
            if model.trained_through > inputs.as_of:
                continue
            rows = forecast_challenger(inputs, model)
        except (NextdayError, ModelError) as error:
            remarks.append(f"The challenger {challenger.name} made no forecast. {error}")
            continue
        if len(rows):
            _seal(run, inputs, record, rows, challenger)
    return remarks


def _seal(
    run: Run, inputs: Inputs, record: UniverseRecord, rows: pd.DataFrame, challenger: Challenger
) -> None:
    as_of = inputs.as_of
    sealed = record.issue(
        rows.assign(issued_at=pd.Series(run.clock(), index=rows.index, dtype="datetime64[us, UTC]")),
        opens={as_of: run.calendar.opens[run.calendar.next_session(as_of)].to_pydatetime()},
        newest_observed_at=inputs.price_status.observed_at.to_pydatetime(),
        historical=run.is_historical or run.is_simulated,
    )
    if new := int(sealed["is_new"].sum()):
        log_line(f"sealed {new} forecasts of the challenger {challenger.name} from {as_of:%Y-%m-%d}")


@task("decide on challengers")
def decide_challengers(
    run: Run, record: UniverseRecord, champions: Champions, as_of: pd.Timestamp
) -> list[str]:
    """Promote the first challenger for which the settled forecasts speak, and return that in a sentence.

    Args:
        run: The run.
        record: The universe's part of the ledger, with what has just been settled.
        champions: The registered models.
        as_of: The newest session.
    """
    for contest in list_contests(run, record.rows, champions, as_of):
        standing = contest.standing
        if standing.decision.reason:
            promote(run, contest.model, standing.decision.reason, standing.sentence)
            return [f"A new champion serves: {standing.sentence}."]
        log_line(standing.sentence)
    return []


def list_contests(run: Run, rows: pd.DataFrame, champions: Champions, as_of: pd.Timestamp) -> list[Contest]:
    """Compare every challenger with the champion; one whose files are gone is left out.

    Args:
        run: The run.
        rows: The champions' rows of the ledger with their outcomes.
        champions: The registered models.
        as_of: The newest session.
    """
    challengers = ChallengerBook(run.workspace.home).challengers(run.name)
    champion = champions.serving() if challengers else None
    if champion is None:
        return []
    sealed = run.ledger.record(run.name, role="challenger")
    age = run.calendar.position(as_of) - run.calendar.position(champion.trained_through)
    contests = []
    for challenger in challengers:
        try:
            model = champions.version(challenger.model_version)
            compared = _compare(run, rows, sealed, champion, model)
        except (NextdayError, ModelError) as error:
            log_line(f"the challenger {challenger.name} cannot be compared: {error}")
            continue
        decision = _decide(run, compared, age, model)
        standing = Standing(challenger.name, model.version, model.trained_through, compared, decision)
        contests.append(Contest(model, standing))
    return contests


def _decide(run: Run, compared: Comparison, age: int, model: Champion) -> Decision:
    """Decide as [promotion] says; a model whose custom code the settings do not name could not serve live."""
    decision = decide(compared, run.config.promotion, age=age)
    try:
        require_named_code(run, model.code, model.directory)
    except InputError:
        if decision.reason:
            return Decision("", f"{decision.sentence}; the settings in use must name its custom code first")
    return decision


def _compare(
    run: Run, rows: pd.DataFrame, sealed: pd.DataFrame, champion: Champion, model: Champion
) -> Comparison:
    output = champion.outputs[0]
    own = rows[rows["model_version"] == champion.version]
    other = sealed[sealed["model_version"] == model.version]
    shadow = pair_sessions(select_output(own, output), select_output(other, output))
    held_out = _pair_tests(run, champion, model, output)
    return compare(held_out, shadow, horizon=output.horizon)


def _pair_tests(run: Run, champion: Champion, model: Champion, output: Output) -> pd.DataFrame:
    """Return `pair_sessions` of the two test sets: measured once, as all their rows take seconds to compare."""
    kept = run.workspace.cache / f"{run.name}.{champion.version}.{model.version}.parquet"
    try:
        return pd.read_parquet(kept)
    except Exception:  # it is not there yet, or damaged, as whatever the reader stumbles over
        tests = [_read_test(run, each, output) for each in (champion, model)]
        paired = pair_sessions(*tests)
        write_bytes(kept, paired.to_parquet(index=False))
        return paired


def _read_test(run: Run, model: Champion, output: Output) -> pd.DataFrame:
    folder = run.workspace.evaluation(run.name, model.version)
    rows = read_test_rows(folder, model.evaluation, model.name)
    return select_output(rows, output) if output in list_outputs(rows) else rows.iloc[:0]
