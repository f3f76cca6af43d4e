"""Rank the trials of a search against the configured settings, which are the first trial, number 0."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.formatting import count, format_alike
from pipeline.statistics import bootstrap, significance
from pipeline.tracking.trials import Parameters, Trial

__all__ = ["Comparison", "Ranking", "compare", "rank", "toml_lines"]

_DRAWS = 1000


@dataclass(frozen=True)
class Comparison:
    """A complete trial compared with the configured settings on the same sessions.

    Attributes:
        trial: The trial.
        saved: Log loss saved per session against the configured settings; positive is better.
        low: Lower end of its 95% interval, by blocks of sessions; NaN with too few of them.
        high: Upper end.
        error: Its standard error.
    """

    trial: Trial
    saved: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Ranking:
    """The complete trials, the best first.

    Attributes:
        comparisons: The configured settings included.
        tried: Number of trials with a result, complete or pruned, the configured settings included.
    """

    comparisons: list[Comparison]
    tried: int

    @property
    def best(self) -> Comparison:
        """The comparison with the lowest log loss."""
        return self.comparisons[0]

    @property
    def luck(self) -> float:
        """Expected saving of the best of as many trials if all were only as good as the configured settings.

        The expected maximum of as many standard normals, times the median standard error of a difference. Trials
        of one search are similar, so this is rather an overestimate; NaN if there is nothing to compare.
        """
        errors = [each.error for each in self.comparisons if each.trial.number]
        if not errors or self.tried < 2:
            return math.nan
        return significance.expected_maximum(self.tried - 1) * float(np.median(errors))

    @property
    def sentence(self) -> str:
        """The result of the best trial, and what luck alone would give, as text."""
        others = self.tried - 1
        if others < 1:
            return "Nothing was tried yet but the configured settings."
        if self.best.trial.number == 0:
            return (
                f"None of {count(others, 'trial')} is better than the configured settings: nothing to change."
            )
        luck = max(self.luck, 0.0)
        saved, by_luck = format_alike(self.best.saved, luck, decimals=5, sign="")
        opening = (
            f"The best of {count(others, 'trial')} saves {saved} nats per session. If all were only as good as the "
            f"configured settings, the luckiest would seem to save about {by_luck}."
        )
        if not self.best.saved > luck:
            return f"{opening} So there is no evidence that it is better."
        return f"{opening} It saves more, but a selected loss is optimistic: only the untouched test decides."


def compare(trial: Trial, configured: Trial) -> Comparison:
    """Return the log loss that a complete trial saves, with an interval by blocks of sessions."""
    difference = np.array(configured.losses) - np.array(trial.losses)
    drawn = _mean_draws(difference)
    low, high = bootstrap.percentile_interval(drawn)
    return Comparison(
        trial, float(difference.mean()), low, high, float(drawn.std()) if len(drawn) else math.nan
    )


def rank(trials: Sequence[Trial]) -> Ranking:
    """Return the complete trials of one search, the best first; the first of `trials` has the configured settings."""
    configured = trials[0]
    complete = [compare(trial, configured) for trial in trials if trial.state == "complete"]
    return Ranking(
        sorted(complete, key=lambda each: (-each.saved, each.trial.number)),
        sum(trial.state != "failed" for trial in trials),
    )


def toml_lines(chosen: Parameters, configured: Parameters) -> list[str]:
    """Return the lines for nextday.toml that make the configured settings the chosen ones, section by section."""
    lines: list[str] = []
    for setting in sorted(name for name in chosen if chosen[name] != configured[name]):
        section, _, name = setting.partition(".")
        if f"[{section}]" not in lines:
            lines.append(f"[{section}]")
        lines.append(f"{name} = {json.dumps(chosen[setting])}")
    return lines


def _mean_draws(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    copies = bootstrap.resample_sessions(difference, draws=_DRAWS, seed=0)
    return np.asarray(copies @ difference / max(len(difference), 1))
