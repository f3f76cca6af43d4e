"""Robustness tests next to the verdict: directional accuracy, data snooping, and the sample size of a small edge."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation.aligned import gather_labelled
from pipeline.evaluation.data_snooping import (
    ConfidenceSet,
    SuperiorAbility,
    find_confidence_set,
    superior_ability,
    tabulate_losses,
)
from pipeline.formatting import count, describe_p_value, format_alike, format_percent
from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.pesaran_timmermann import PesaranTimmermann, pesaran_timmermann
from pipeline.statistics.power import SampleSize, estimate_sample_size

__all__ = ["RobustnessTests", "run_robustness_tests"]


@dataclass(frozen=True)
class RobustnessTests:
    """The results on the rows of one output.

    Attributes:
        model: The model whose directions were tested.
        baseline: The baseline that all candidates are compared with.
        direction: Pesaran and Timmermann's test.
        size: How many sessions are needed to distinguish a hit rate of 52% from 50% on these rows.
        ability: Hansen's test; None with too few sessions.
        confidence: The model confidence set; None with too few sessions.
    """

    model: str
    baseline: str
    direction: PesaranTimmermann
    size: SampleSize
    ability: SuperiorAbility | None
    confidence: ConfidenceSet | None

    @property
    def sentences(self) -> dict[str, str]:
        """The result of each test in plain words, by its name."""
        sentences = {"Pesaran and Timmermann": self._describe_direction()}
        if self.ability:
            sentences["superior predictive ability"] = self._describe_ability(self.ability)
        if self.confidence:
            sentences["model confidence set"] = _describe_confidence_set(self.confidence)
        return sentences

    def _describe_direction(self) -> str:
        found = self.direction
        if np.isnan(found.statistic):
            return f"{self.model} forecast one direction only, or has too few sessions: there is nothing to test."
        p, alone = describe_p_value(found.p_value), describe_p_value(found.independent_p_value)
        hits = f"{format_percent(found.hit_rate)} of {found.n:,} over {count(found.sessions, 'session')}"
        return (
            f"{self.model} hit {hits}; random directions with as many ups would have hit "
            f"{format_percent(found.by_chance)} (one-sided {p} by whole sessions; "
            f"{alone} if rows were independent)."
        )

    def _describe_ability(self, found: SuperiorAbility) -> str:
        return (
            f"The best of {count(found.candidates, 'candidate')} in the test was {found.best}, better than "
            f"{self.baseline} by {format_alike(found.gain)[0]} per session. Hansen's test that no candidate is better: "
            f"{describe_p_value(found.p_value)} ({count(found.sessions, 'session')}, all candidates at once)."
        )


def _describe_confidence_set(found: ConfidenceSet) -> str:
    among = f"{len(found.members)} of {len(found.p_values)}"
    return (
        f"With {1 - found.level:.0%} confidence the best method is among {among}: {', '.join(found.members)}."
    )


def run_robustness_tests(
    rows: pd.DataFrame,
    *,
    model: str,
    baseline: str,
    candidates: Collection[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> RobustnessTests:
    """Test the directions of a model, and all models against the baseline.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`: one output, at least one outcome.
        model: The model whose directions are tested.
        baseline: Chosen before the test.
        candidates: The models compared; None: all.
        draws: Samples of the bootstraps.
        seed: Of the bootstraps.
    """
    table = gather_labelled(rows, candidates)
    table.require(model)
    own = (table.p[model], table.y, table.session)
    enough = table.sessions >= MIN_SESSIONS * table.horizon
    options = {"horizon": table.horizon, "draws": draws, "seed": seed}
    losses = tabulate_losses(table)
    return RobustnessTests(
        model,
        baseline,
        pesaran_timmermann(*own, horizon=table.horizon),
        estimate_sample_size(*own, horizon=table.horizon),
        superior_ability(losses, baseline, **options) if enough else None,
        find_confidence_set(losses, **options) if enough else None,
    )
