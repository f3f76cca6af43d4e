"""The coverage curves of a model, as figures and tables; they are measured in `pipeline.evaluation.selective`."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline.evaluation.selective import AchievedCoverage, measure_achieved_coverage, trace_curve
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import format_interval, format_percent
from pipeline.outputs import MAIN, NEXT, Output, describe_output, name_key, select_output
from pipeline.report.charts.coverage import draw_curve

__all__ = ["Curve", "collect_curves", "curve_cells"]


_IN_TABLE: Final = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """The coverage curve of one output.

    Attributes:
        output: What is forecast.
        key: The name of its figure.
        about: The output in words; empty for the first one.
        baseline: The baseline that it is compared with.
        points: The points of `trace_curve`.
        achieved: Target and achieved coverage; None where the model never abstains.
    """

    output: Output
    key: str
    about: str
    baseline: str
    points: pd.DataFrame
    achieved: AchievedCoverage | None

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return self.output.horizon

    @property
    def cells(self) -> list[dict[str, str]]:
        """A table of a few points, as texts."""
        return curve_cells(self.points, self.achieved, self.horizon)

    def draw(self) -> str:
        """Return the figure as SVG."""
        return draw_curve(self.points, self.baseline, self.achieved, self.about)


def collect_curves(
    test_rows: pd.DataFrame, scores: pd.DataFrame, verdicts: Mapping[Output, Verdict]
) -> list[Curve]:
    """Return the curve of every output with a verdict and a forecast other than 50%.

    Args:
        test_rows: The long frame of `pipeline.evaluation.scores`, with direction.
        scores: The schema.SCORES of those rows.
        verdicts: The verdicts by output, the first one first; they name the model and its baseline.
    """
    main = next(iter(verdicts), MAIN)
    curves = (_collect(test_rows, scores, each, verdict, each == main) for each, verdict in verdicts.items())
    return [curve for curve in curves if len(curve.points)]


def _collect(
    test_rows: pd.DataFrame, scores: pd.DataFrame, output: Output, verdict: Verdict, is_main: bool
) -> Curve:
    rows = select_output(test_rows[test_rows["outcome"].notna()], output)
    own, baseline = (rows[rows["model"] == name] for name in (verdict.model, verdict.baseline))
    achieved = measure_achieved_coverage(scores, own, model=verdict.model, output=output)
    marked = (achieved.target, achieved.coverage) if achieved else ()
    return Curve(
        output=output,
        key="coverage" if is_main else f"coverage_{name_key(output)}",
        about="" if is_main else describe_output(output),
        baseline=verdict.baseline,
        points=trace_curve(own, baseline, marked=marked),
        achieved=achieved,
    )


def curve_cells(
    curve: pd.DataFrame, achieved: AchievedCoverage | None = None, horizon: int = NEXT
) -> list[dict[str, str]]:
    """Return a table of a few points of the curve, as texts, with the target marked."""
    nearest = _nearest(curve, achieved.target) if achieved and len(curve) else None
    return [
        _cells(row, horizon, is_target=place == nearest)
        for place, row in enumerate(curve.to_dict("records"))
        if place == nearest or place == len(curve) - 1 or np.isclose(row["coverage"], _IN_TABLE).any()
    ]


def _nearest(curve: pd.DataFrame, target: float) -> int:
    return int((curve["coverage"] - target).abs().to_numpy().argmin())


def _cells(row: dict[Hashable, Any], horizon: int, *, is_target: bool) -> dict[str, str]:
    return {
        "coverage": format_percent(row["coverage"]).replace(".0%", "%"),
        "mark": "target" if is_target else "",
        "confidence": f"{100 * row['confidence']:.1f} pp",
        "hit rate": format_percent(row["hit_rate"]),
        "interval": format_interval(row["low"], row["high"], "hit_rate", row["sessions"], horizon),
        "baseline": format_percent(row["baseline_rate"]),
        "n": f"{row['n']:,}",
        "sessions": f"{row['sessions']:,}",
    }
