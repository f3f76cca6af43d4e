"""Change champion and challengers by hand: promote a model, go back to the champion before, end a challenge."""

from datetime import datetime
from pathlib import Path

from flows.runtime.tasks import open_locked_run
from flows.runtime.tracking import follow_shared_models
from flows.training.champion import BY_HAND, promote, show_challengers, who_is_it
from flows.training.verified_champion import Champion, Champions
from models.ensembles.model_files import model_version
from pipeline.errors import InputError
from pipeline.tracking.challengers import Challenger, ChallengerBook
from pipeline.tracking.registry import Registry

__all__ = ["promote_by_hand", "roll_back", "withdraw"]


def promote_by_hand(
    version: str,
    why: str,
    *,
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
) -> Champion:
    """Make a registered model the champion; who did it, when and why is written down, and no sealed row changes.

    Where it serves already, MLflow's aliases and the list of challengers are brought in line with that.

    Args:
        version: The model, or the beginning of its version.
        why: The reason, in the words of who does it.
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.

    Raises:
        InputError: no model, or more than one, has this version.
        NextdayError: its files are missing or damaged.
    """
    with open_locked_run(config, home, now) as run:
        follow_shared_models(run)
        champions, registry = Champions(run), Registry(run.workspace.home, model_version)
        versions = [each.model_version for each in registry.versions(run.name)]
        found = [each for each in versions if version and each.startswith(version)]
        if len(found) != 1:
            raise InputError(
                f"{len(found) or 'No'} models of {run.name!r} have the version {version!r}",
                where="VERSION",
                fix="`nextday models list` shows the versions; give enough of one to tell it from the others",
            )
        return promote(run, champions.version(found[0]), BY_HAND, why or "no reason given", who_is_it())


def roll_back(
    why: str, *, config: Path | None = None, home: Path | None = None, now: datetime | None = None
) -> Champion:
    """Make the champion before the present one champion again; see `promote_by_hand`.

    Raises:
        InputError: there was none.
        NextdayError: its files are missing or damaged.
    """
    with open_locked_run(config, home, now) as run:
        follow_shared_models(run)
        registry = Registry(run.workspace.home, model_version)
        serving = registry.serving(run.name)
        noted = ChallengerBook(run.workspace.home).promotions(run.name)
        before = (
            noted[-1].former if noted and serving and noted[-1].model_version == serving.model_version else ""
        )
        if not before:  # of a version that did not write promotions down
            once = [each for each in registry.versions(run.name) if each.promoted_at]
            once = [each for each in once if not serving or each.model_version != serving.model_version]
            before = max(once, key=lambda each: each.promoted_at or run.now).model_version if once else ""
        if not before:
            raise InputError(
                f"There is no champion of {run.name!r} before the present one",
                where=str(run.workspace.home / "models" / run.name),
                fix="`nextday models list` shows the models; `nextday promote VERSION` makes one the champion",
            )
        return promote(run, Champions(run).version(before), BY_HAND, why or "rolled back", who_is_it())


def withdraw(
    name: str, *, config: Path | None = None, home: Path | None = None, now: datetime | None = None
) -> Challenger:
    """Let a challenger forecast no longer; its sealed forecasts and its files stay.

    Raises:
        InputError: there is none of this name.
    """
    with open_locked_run(config, home, now) as run:
        follow_shared_models(run)
        gone = ChallengerBook(run.workspace.home).withdraw(run.name, name)
        show_challengers(run)
        return gone
