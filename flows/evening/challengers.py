"""Challengers: they forecast beside the champion, and replace it when the settled forecasts say so."""

from dataclasses import dataclass
from typing import Final

import pandas as pd

from flows.evening.forecasting import Inputs, forecast_challenger, issue
from flows.runtime.context import Run
from flows.runtime.custom_code import find_changed, require_named_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.champion import promote
from flows.training.evaluation import read_test_rows
from flows.training.verified_champion import Champion, Champions
from models.errors import ModelError
from pipeline.errors import InputError, NextdayError, TrackingUnreachableError
from pipeline.ledger.ledger import UniverseRecord
from pipeline.monitoring.challenge import (
    BETTER,
    Comparison,
    Decision,
    Standing,
    compare,
    decide,
    pair_sessions,
)
from pipeline.outputs import Output, describe_outputs, list_outputs, name_key, select_output
from pipeline.storage.files import write_bytes
from pipeline.tracking.challengers import ChallengerBook

__all__ = [
    "Contest",
    "decide_challengers",
    "explain_unable",
    "forecast_challengers",
    "list_contests",
    "list_standings",
]


_NO_SESSION: Final = pd.DataFrame({"as_of": [], "saved": [], "bound": []}, dtype=float)


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
    try:
        challengers = ChallengerBook(run.workspace.home).challengers(run.name)
    except NextdayError as error:
        return [f"No challenger made a forecast. {error}"]
    remarks, symbols = [], {*record.forecasts(inputs.as_of)["symbol"]}
    versions = [each.model_version for each in challengers]
    sealed = run.ledger.forecasts(run.name, as_of=inputs.as_of) if versions else None
    for challenger in challengers:
        own = None if sealed is None else sealed[sealed["model_version"] == challenger.model_version]
        if challenger.model_version == champion.version or (own is not None and symbols <= {*own["symbol"]}):
            continue
        try:
            model = champions.version(challenger.model_version)
            if model.trained_through > inputs.as_of:
                continue
            rows = forecast_challenger(inputs, model)
        except (NextdayError, ModelError) as error:
            remarks.append(f"The challenger {challenger.name} made no forecast. {error}")
            continue
        sealed_now = (
            issue(run, record, rows, inputs.as_of, inputs.price_status.observed_at) if len(rows) else rows
        )
        if len(sealed_now) and (new := int(sealed_now["is_new"].sum())):
            log_line(
                f"sealed {new} forecasts of the challenger {challenger.name} from {inputs.as_of:%Y-%m-%d}"
            )
    return remarks


@task("decide on challengers")
def decide_challengers(
    run: Run, record: UniverseRecord, champions: Champions, as_of: pd.Timestamp
) -> list[str]:
    """Promote the challenger for which the settled forecasts speak, and return that in a sentence.

    One that is better comes before one that replaces an old champion; of these the newest training does. Nothing in
    here costs the evening: where a list cannot be read or written, that is the sentence.

    Args:
        run: The run.
        record: The universe's part of the ledger, with what has just been settled.
        champions: The registered models.
        as_of: The newest session.

    Raises:
        TrackingUnreachableError: other machines share the models, and they cannot be told of a promotion.
    """
    try:
        contests = list_contests(run, record.rows, champions, as_of)
        for contest in contests:
            log_line(contest.standing.sentence)
        ready = [each for each in contests if each.standing.decision.reason]
        if not ready:
            return []
        chosen = max(
            ready, key=lambda each: (each.standing.decision.reason == BETTER, each.model.trained_through)
        )
        standing = chosen.standing
        champions.renew(promote(run, chosen.model, standing.decision.reason, standing.sentence))
    except TrackingUnreachableError:
        raise  # other machines may know a new champion already: a run must not go on with the former one
    except NextdayError as error:
        log_line(str(error))
        return [f"Nothing was decided on challengers. {error}"]
    return [f"A new champion serves: {standing.sentence}."]


def list_standings(run: Run, rows: pd.DataFrame, champions: Champions, as_of: pd.Timestamp) -> list[Standing]:
    """Return where the challengers stand, for a report; nothing where their list cannot be read, which was told."""
    try:
        return [each.standing for each in list_contests(run, rows, champions, as_of)]
    except NextdayError:
        return []


def list_contests(run: Run, rows: pd.DataFrame, champions: Champions, as_of: pd.Timestamp) -> list[Contest]:
    """Compare every challenger with the champion; one whose files are gone is left out.

    A challenger that serves, because a run was killed while it promoted it, is taken off the list.

    Args:
        run: The run.
        rows: The champions' rows of the ledger with their outcomes.
        champions: The registered models.
        as_of: The newest session.

    Raises:
        StoreError: the list of challengers is damaged.
    """
    book = ChallengerBook(run.workspace.home)
    challengers = book.challengers(run.name)
    champion = champions.serving() if challengers else None
    if champion is None:
        return []
    book.forget(run.name, champion.version)
    challengers = [each for each in challengers if each.model_version != champion.version]
    versions = [each.model_version for each in challengers]
    if not versions:
        return []
    sealed = run.ledger.record(run.name, role="challenger", model_versions=versions)
    contests = []
    for challenger in challengers:
        try:
            model = champions.version(challenger.model_version)
            compared = _compare(run, rows, sealed, champion, model)
        except (NextdayError, ModelError) as error:
            log_line(f"the challenger {challenger.name} cannot be compared: {error}")
            continue
        age, own_age = (
            run.calendar.position(as_of) - run.calendar.position(each.trained_through)
            for each in (champion, model)
        )
        decision = _decide(run, compared, model, age, own_age)
        standing = Standing(challenger.name, model.version, model.trained_through, compared, decision)
        contests.append(Contest(model, standing))
    return contests


def explain_unable(run: Run, model: Champion) -> str:
    """Return why a model cannot serve the settings in use, in words; empty if it can."""
    if lacking := [each for each in run.config.labels.outputs if each not in model.outputs]:
        return f"it does not forecast {describe_outputs(lacking)}"
    if changed := find_changed(run, model.code):
        return f"its custom code has changed ({changed})"
    if inputs := model.find_lacking(run):
        return f"it reads {inputs}"
    try:
        require_named_code(run, model.code, model.directory)
    except InputError:
        return "the settings do not name the custom code and settings that it was made with"
    return ""


def _decide(run: Run, compared: Comparison, model: Champion, age: int, own_age: int) -> Decision:
    """Decide as [promotion] says; a model that cannot serve the settings in use is not promoted."""
    if unable := explain_unable(run, model):
        return Decision("", f"it could not serve: {unable}")
    return decide(compared, run.config.promotion, age=age, own_age=own_age)


def _compare(
    run: Run, rows: pd.DataFrame, sealed: pd.DataFrame, champion: Champion, model: Champion
) -> Comparison:
    shared = [
        each for each in run.config.labels.outputs if each in champion.outputs and each in model.outputs
    ]
    if not shared:
        return compare(_NO_SESSION, _NO_SESSION)
    output = shared[0]
    own = rows[rows["model_version"] == champion.version]
    other = sealed[sealed["model_version"] == model.version]
    shadow = pair_sessions(select_output(own, output), select_output(other, output))
    held_out = _pair_tests(run, champion, model, output)
    return compare(held_out, shadow, horizon=output.horizon)


def _pair_tests(run: Run, champion: Champion, model: Champion, output: Output) -> pd.DataFrame:
    """Return `pair_sessions` of the two test sets: measured once, as all their rows take seconds to compare."""
    named = f"{run.name}.{champion.version}.{model.version}.{name_key(output)}"
    kept = run.workspace.cache / f"{named}.parquet"
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
