"""What classic leaks would show: the configured procedure with each of them planted, beside the clean one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.operations.audit import AuditInput, gather, open_procedure
from flows.runtime.context import Run
from flows.runtime.progress import bar
from models.scaling import Scaling, fit_scaling
from pipeline.audit.apparent_skill import ApparentSkill, Figure, Market, show_skills
from pipeline.audit.planted_leaks import (
    CENTRED,
    NO_GAP,
    SAME_OPEN,
    SCALE,
    SURVIVORS,
    CannotPlantError,
    Leak,
    fill_at_same_open,
    keep_survivors,
    smooth_with_later,
    without_gaps,
)
from pipeline.audit.procedure_checks import Procedure
from pipeline.features.panel import build_panel
from pipeline.outputs import Output
from pipeline.trading.fills import read_fills

__all__ = ["LeakReport", "LeakRow", "plant_leaks", "scale_on_all"]

CLEAN = Leak("none", "The procedure as it is configured.")


@dataclass(frozen=True, eq=False)
class LeakRow:
    """One line of the table.

    Attributes:
        leak: What was planted.
        reason: Why it could not be planted; empty where it was.
        skills: What the procedure shows, by output; empty where there is a reason.
        more: How much more log loss it saves than the clean procedure, by output; empty for the clean one.
    """

    leak: Leak
    reason: str
    skills: Mapping[Output, ApparentSkill]
    more: Mapping[Output, Figure]


@dataclass(frozen=True, eq=False)
class LeakReport:
    """The clean procedure and each planted leak.

    Attributes:
        universe: The universe.
        as_of: The last session of the prices, as text.
        extent: What was fitted on how much of history, in words.
        outputs: What is forecast.
        rows: The clean procedure first.
    """

    universe: str
    as_of: str
    extent: str
    outputs: tuple[Output, ...]
    rows: tuple[LeakRow, ...]


def plant_leaks(run: Run, *, full: bool = False) -> LeakReport:
    """Plant each classic leak into the configured procedure, one at a time, and return the skill that it shows.

    Nothing is saved: the figures are neither scores nor part of an audit.

    Args:
        run: The run.
        full: Fit the model as configured, on all of history; default: a small one, on a part of it.

    Raises:
        InputError: there are no prices, or too few.
        ModelError: the clean procedure cannot be fitted.
    """
    subject = gather(run, full=full)
    market = Market(read_fills(build_panel(subject.features.block)), run.config.trading)
    with open_procedure(subject) as procedure:
        plantings = _list_plantings(subject, procedure)
        with bar("leaks", 1 + len(plantings)) as advance:
            clean = show_skills(procedure, market)
            advance("the clean procedure")
            rows = [LeakRow(CLEAN, "", clean, {})]
            for leak, plant in plantings.items():
                rows.append(_try(leak, plant, clean, market))
                advance(leak.name)
    return LeakReport(
        universe=run.name,
        as_of=f"{subject.sequences.sessions[-1]:%Y-%m-%d}",
        extent=subject.extent,
        outputs=subject.sequences.outputs,
        rows=tuple(rows),
    )


def _list_plantings(subject: AuditInput, procedure: Procedure) -> dict[Leak, Callable[[], Procedure]]:
    features = subject.features
    return {
        SCALE: partial(scale_on_all, procedure),
        CENTRED: partial(smooth_with_later, procedure),
        SAME_OPEN: partial(fill_at_same_open, procedure, features),
        NO_GAP: lambda: replace(procedure, fold=without_gaps(procedure.fold)),
        SURVIVORS: partial(keep_survivors, procedure, features),
    }


def scale_on_all(procedure: Procedure) -> Procedure:
    """Return the procedure whose network takes its input scale from every session.

    Raises:
        CannotPlantError: the model is no network of nextday's.
    """
    model: Any = procedure.model
    if not hasattr(model, "scale"):
        raise CannotPlantError("a custom model scales its inputs itself")
    return replace(procedure, model=replace(model, scale=_fit_on_all))


def _fit_on_all(x: NDArray[np.float32], mask: NDArray[np.bool_], train: range) -> Scaling:
    return fit_scaling(x, mask, range(x.shape[1]))


def _try(
    leak: Leak, plant: Callable[[], Procedure], clean: Mapping[Output, ApparentSkill], market: Market
) -> LeakRow:
    """Return the line of a leak; a procedure that cannot be fitted with it says why."""
    try:
        leaking = plant()
        skills = show_skills(leaking, market, at_same_open=leak is SAME_OPEN)
    except CannotPlantError as reason:
        return LeakRow(leak, str(reason), {}, {})
    except Exception as error:
        if not hasattr(error, "fix"):  # neither a NextdayError nor a ModelError
            raise
        return LeakRow(leak, " ".join(str(error).split()), {}, {})
    more = {output: skill.more_than(clean[output], seed=leaking.seed) for output, skill in skills.items()}
    return LeakRow(leak, "", skills, more)
