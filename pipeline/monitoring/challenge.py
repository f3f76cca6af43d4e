"""Champion and challenger on the same forecasts: the log loss that the challenger saves, session by session."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from pipeline.evaluation.verdict import enough_sessions
from pipeline.promotion_config import PromotionConfig
from pipeline.schema import FORECAST_KEY, is_void
from pipeline.statistics import metrics
from pipeline.statistics.bootstrap import percentile_interval, resample_sessions
from pipeline.statistics.e_process import merge_classes

__all__ = [
    "AGE",
    "BETTER",
    "DOUBTFUL",
    "Comparison",
    "Decision",
    "Standing",
    "compare",
    "decide",
    "pair_sessions",
]

BETTER: Final = "better"
AGE: Final = "age"
"""The reasons of a promotion by the rule."""

_MOST: Final = 300.0
"""The largest logarithm of an e-value that is told."""

DOUBTFUL: Final = 2.0
"""Evidence of a worse model that keeps it from replacing an old one; an equal one reaches it in at most half of all
cases, and in one of 25 at a given evening (docs/challengers.md)."""


_PAIRED: Final = (*FORECAST_KEY, "p_up", "outcome", "settled_at")


def pair_sessions(champion: pd.DataFrame, challenger: pd.DataFrame) -> pd.DataFrame:
    """Return what the challenger saves on the forecasts that both made, [session]: as_of, saved, bound.

    saved is the mean over a session's rows of the champion's log loss less the challenger's; a row without an outcome
    (unchanged, untraded) saves nothing. bound is the most that it could have been, or lost, whatever the outcomes: it
    is known as soon as both have forecast. Sessions that are not settled in full are left out, and void forecasts.

    Args:
        champion: symbol, as_of, target_session, horizon, target, p_up, outcome, and settled_at of sealed rows (NaT: not
            settled yet) and void_reason; of one output.
        challenger: The same of the other model; the outcomes are the champion's.
    """
    own = champion.loc[~is_void(champion), [each for each in _PAIRED if each in champion]]
    both = own.merge(challenger[[*FORECAST_KEY, "p_up"]], on=FORECAST_KEY, suffixes=("", "_challenger"))
    if "settled_at" in both:
        is_open = both["settled_at"].isna().groupby(both["as_of"]).transform("any")
        both = both[~is_open]
    p, q = (np.clip(both[name], metrics.CLIP, 1 - metrics.CLIP) for name in ("p_up", "p_up_challenger"))
    up, down = np.log(q / p), np.log((1 - q) / (1 - p))
    saved = np.select([both["outcome"] == 1, both["outcome"] == 0], [up, down], 0.0)
    rows = both.assign(saved=saved, bound=np.maximum(np.abs(up), np.abs(down)))
    return rows.groupby("as_of", observed=True)[["saved", "bound"]].mean().reset_index()


@dataclass(frozen=True)
class Comparison:
    """What is known of a challenger beside the champion.

    Attributes:
        shadow: Settled sessions on which both have forecast.
        held_out: Sessions of both test sets, which neither fit saw.
        saved: Mean log loss saved per session; NaN without a session.
        shadow_saved: The same on the shadow sessions alone.
        low, high: Its 95% interval by blocks of sessions; NaN with too few of them.
        better: Evidence that it is better: an e-value, which a model that is no better ever brings to 1 / alpha with a
            probability of at most alpha.
        worse: Evidence that it is worse, alike.
    """

    shadow: int
    held_out: int
    saved: float
    shadow_saved: float
    low: float
    high: float
    better: float
    worse: float

    @property
    def figures(self) -> str:
        """The figures in words."""
        sessions = f"{self.shadow} shadow sessions" + (
            f" and {self.held_out} of both test sets" if self.held_out else ""
        )
        if np.isnan(self.saved):
            return f"{sessions}: nothing to compare yet"
        return (
            f"log loss saved per session {self.interval} over {sessions}; evidence of better {self.better:.2g}, "
            f"of worse {self.worse:.2g}"
        )

    @property
    def interval(self) -> str:
        """What it saves, with the interval where there is one; a dash without a session."""
        if np.isnan(self.saved):
            return "–"
        return f"{self.saved:+.5f}" + ("" if np.isnan(self.low) else f" [{self.low:+.5f}, {self.high:+.5f}]")


def compare(held_out: pd.DataFrame, shadow: pd.DataFrame, *, horizon: int = 1, seed: int = 0) -> Comparison:
    """Compare a challenger with the champion.

    The e-values are those of `e_process.bet_on_losses` on what is saved, or lost, session by session in order of time;
    sessions on which both forecast the same tell nothing. The bets start with the sessions of the test sets: these are
    held out from both fits, but not from whoever chose the settings by them.

    Args:
        held_out: `pair_sessions` of both test sets; may be empty.
        shadow: `pair_sessions` of the sealed rows.
        horizon: Sessions ahead; the outcomes of neighbours overlap.
        seed: Of the bootstrap.
    """
    paired = [part[part["bound"] > 0].sort_values("as_of") for part in (held_out, shadow)]
    saved = np.concatenate([part["saved"].to_numpy(float) for part in paired])
    bound = np.concatenate([part["bound"].to_numpy(float) for part in paired])
    better, worse = (
        float(np.exp(min(merge_classes(side * saved, bound, horizon=horizon).log_e[-1], _MOST)))
        if len(saved)
        else 1.0
        for side in (1, -1)
    )
    low = high = np.nan
    if len(saved) >= enough_sessions(horizon):
        copies = resample_sessions(saved, horizon=horizon, draws=1000, seed=seed)
        low, high = percentile_interval(copies @ saved / len(saved))
    mean = float(saved.mean()) if len(saved) else np.nan
    alone = float(shadow["saved"].mean()) if len(shadow) else np.nan
    return Comparison(len(shadow), len(held_out), mean, alone, low, high, better, worse)


@dataclass(frozen=True)
class Decision:
    """Whether a challenger becomes champion, and the reason: BETTER, AGE, or empty while it waits; in a sentence."""

    reason: str
    sentence: str


@dataclass(frozen=True)
class Standing:
    """A challenger on a report.

    Attributes:
        name: What it is called.
        model_version: The digest of its files.
        trained_through: The last session that it was trained on.
        compared: What is known of it beside the champion.
        decision: What follows from that.
    """

    name: str
    model_version: str
    trained_through: pd.Timestamp
    compared: Comparison
    decision: Decision

    @property
    def sentence(self) -> str:
        """Where it stands, in a sentence."""
        return (
            f"challenger {self.name} ({self.model_version}, trained through {self.trained_through:%Y-%m-%d}): "
            f"{self.decision.sentence}; {self.compared.figures}"
        )


def decide(compared: Comparison, rule: PromotionConfig, *, age: int, own_age: int) -> Decision:
    """Decide on a challenger.

    It is promoted as better once the evidence for that reaches 1 / (1 - confidence), if it also saved something on the
    shadow sessions: whoever chose its settings may have seen the test sets, and nobody had seen these. It replaces a
    champion that is older than max_age sessions, if it is not too old itself, unless the evidence that it is worse
    stands at DOUBTFUL or more: an old model is a risk of its own. Either takes min_sessions shadow sessions.

    Args:
        compared: The two models.
        rule: [promotion].
        age: Sessions since the champion's training.
        own_age: Sessions since the challenger's.
    """
    limit = 1 / (1 - rule.confidence)
    if rule.rule == "never":
        return Decision("", "promoted by hand only ([promotion] rule)")
    if compared.shadow < rule.min_sessions:
        return Decision("", f"{compared.shadow} of {rule.min_sessions} shadow sessions")
    if compared.better >= limit and compared.shadow_saved > 0:
        return Decision(BETTER, f"better: evidence {compared.better:.3g}, at least {limit:.3g} was asked for")
    if age > rule.max_age >= own_age and compared.worse < DOUBTFUL:
        return Decision(
            AGE,
            f"not worse, and the champion's training is {age} sessions old, more than {rule.max_age} ([promotion] "
            "max_age)",
        )
    if age > rule.max_age >= own_age:
        return Decision("", f"the champion is old, but this one looks worse: evidence {compared.worse:.3g}")
    if compared.better >= limit:
        return Decision("", "better on the test sets, but not on the shadow sessions")
    return Decision("", f"not better yet: evidence {compared.better:.3g} of {limit:.3g}")
