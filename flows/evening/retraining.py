"""Train a model beside the champion: it challenges it, or replaces it at once where the champion cannot serve."""

from dataclasses import dataclass
from typing import Final

import pandas as pd

from flows.evening.challengers import explain_unable, list_contests
from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tracking import follow_shared_models
from flows.training.champion import ALWAYS, FIRST, REPLACED, promote, show_challengers, train_model
from flows.training.evaluation import Evaluation, load_evaluation
from flows.training.verified_champion import Champion, Champions
from models.errors import ModelError
from pipeline.errors import InputError, NextdayError, StoreError
from pipeline.tracking.challengers import RETRAINED, ChallengerBook, check_name

__all__ = ["Retrained", "require_challenge", "retrain_in"]

_PROCEDURE: Final = ("features", "labels", "model", "training", "calibration", "context")
"""The sections that say how a model is trained."""


@dataclass(frozen=True, eq=False)
class Retrained:
    """The result of a training.

    Attributes:
        evaluation: Of its procedure; None where nothing was trained.
        sentence: What became of the model, or why there is none.
    """

    evaluation: Evaluation | None
    sentence: str


def retrain_in(
    run: Run, price_status: PriceStatus, rows: pd.DataFrame, champions: Champions, name: str
) -> Retrained:
    """Train a model and let it challenge the champion, as [promotion] says.

    The first model of a universe becomes champion, and so does one that replaces a champion which cannot serve. A
    challenger that was trained alike and has not had its shadow sessions yet is left to stand: nothing is trained.

    Args:
        run: The run.
        price_status: How far the prices reach.
        rows: The champions' rows of the ledger with their outcomes.
        champions: The registered models.
        name: The challenger's name.

    Raises:
        InputError: the name is invalid, or another procedure is to challenge where there is no champion.
    """
    champion, unable = _find_champion(run, champions, name)
    if name != RETRAINED and (champion is None or unable):
        raise InputError(
            f"There is no champion to challenge{f': {unable}' if unable else ''}",
            where=f"models/{run.name} of the workspace",
            fix="`nextday forecast` or `nextday retrain` trains one",
        )
    takes_over = (
        champion is None or bool(unable) or (name == RETRAINED and run.config.promotion.rule == "always")
    )
    if not takes_over and (waiting := _describe_waiting(run, price_status, rows, champions, name)):
        log_line(waiting)
        return Retrained(None, waiting)
    model, evaluation = train_model(run, price_status)
    if champion and model.version == champion.version and not unable:
        return Retrained(evaluation, f"the training gave the champion again, {model.version}: it stays")
    if takes_over:
        reason = FIRST if champion is None and not unable else REPLACED if unable else ALWAYS
        why = {
            FIRST: "the first champion",
            REPLACED: unable,
            ALWAYS: "every training is promoted ([promotion] rule)",
        }
        promote(run, champions.add(model), reason, why[reason])
        return Retrained(evaluation, f"the new champion is {model.version}: {why[reason]}")
    follow_shared_models(run)  # hours may have passed since the run began
    entered = ChallengerBook(run.workspace.home).enter(
        run.name, name, model.version, run.now, price_status.as_of
    )
    show_challengers(run)
    sentence = _describe_entry(run, entered.name, model.version)
    log_line(sentence)
    return Retrained(evaluation, sentence)


def _describe_entry(run: Run, name: str, version: str) -> str:
    rule = run.config.promotion
    if rule.rule == "never":
        then = "it is promoted by hand only ([promotion] rule)"
    elif run.is_historical and not run.is_simulated:
        then = "a historical source has no further sessions, so it is promoted by hand only"
    else:
        then = (
            f"after {rule.min_sessions} settled sessions beside the champion it is decided on, every evening"
        )
    return f"{version} is the challenger {name!r}: {then}; `nextday promote {version}` promotes it at once"


def require_challenge(run: Run, champions: Champions, name: str) -> None:
    """Refuse another procedure that cannot challenge the champion, before anything is fetched.

    Raises:
        InputError: its name is invalid, there is no champion, or its settings are about another universe.
    """
    check_name(name)
    champion = champions.serving()
    if name == RETRAINED or champion is None:
        return
    before, now = (each.get("universe") for each in (champion.settings, run.resolved["settings"]))
    if before != now:
        raise InputError(
            "A challenger forecasts the universe of the champion, and these settings describe another",
            where="[universe]",
            fix="copy the section [universe] of the settings in use",
        )


def _find_champion(run: Run, champions: Champions, name: str) -> tuple[Champion | None, str]:
    """Return the champion, and why it cannot serve the settings in use, in words; empty if it can.

    Another procedure's settings say nothing of that: for it only its files count.
    """
    try:
        champion = champions.serving()
    except (NextdayError, ModelError) as error:
        return None, f"the champion before cannot be read ({error.what})"
    if champion is None:
        return None, ""
    if name == RETRAINED and (unable := explain_unable(run, champion)):
        return champion, f"the champion before cannot serve: {unable}"
    try:
        load_evaluation(run.workspace.evaluation(run.name, champion.version), champion.evaluation)
    except StoreError:
        return champion, "the evaluation of the champion before is lost"
    return champion, ""


def _describe_waiting(
    run: Run, price_status: PriceStatus, rows: pd.DataFrame, champions: Champions, name: str
) -> str:
    """Return why nothing is trained: a challenger of this name and procedure has still to forecast; else empty."""
    now = run.resolved["settings"]
    for contest in list_contests(run, rows, champions, price_status.as_of):
        before, standing = contest.model.settings, contest.standing
        is_same = all(before.get(section) == now.get(section) for section in _PROCEDURE)
        shadow, least = standing.compared.shadow, run.config.promotion.min_sessions
        if standing.name == name and is_same and shadow < least and not explain_unable(run, contest.model):
            return (
                f"nothing is trained: the challenger {name!r} ({contest.model.version}) has had {shadow} of {least} "
                f"sessions beside the champion ([promotion] min_sessions); `nextday promote {contest.model.version}` "
                "promotes it at once"
            )
    return ""
