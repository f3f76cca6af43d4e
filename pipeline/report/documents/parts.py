"""What every JSON document is made of: its head, numbers that may be missing, and the parts that several share."""

import math
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.evaluation.verdict import Verdict
from pipeline.outputs import Output

__all__ = [
    "Day",
    "Document",
    "Moment",
    "Number",
    "Part",
    "ScorePart",
    "SealedForecast",
    "Text",
    "VerdictPart",
    "list_records",
]


def _or_null(value: object) -> object:
    """Return None for a missing value: JSON has no NaN and no infinity."""
    if value is pd.NaT or value is pd.NA:
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_or_null)]
"""A finite number, or null where it is not defined."""

Moment = Annotated[datetime | None, BeforeValidator(_or_null)]
"""An instant in UTC, or null."""

Day = Annotated[date | None, BeforeValidator(_or_null)]
"""A session, or null."""

Text = Annotated[str | None, BeforeValidator(_or_null)]
"""A text, or null."""


class Part(BaseModel):
    """A part of a document: no unknown field, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


VERSION: Final = 1
"""The version of every document: raised when a field is removed or changes its meaning, not when one is added."""


class Document(Part):
    """One JSON document; `document` names its kind."""

    schema_version: Literal[1] = VERSION

    def to_text(self) -> str:
        """Return the document as text, in UTF-8 without NaN, with a line feed at its end."""
        return self.model_dump_json(indent=1) + "\n"


class SealedForecast(Part):
    """One forecast as the ledger holds it.

    `p_up` is the probability of up, or for a relative target of above the median; `p_low` and `p_high` are the ends of
    the ensemble's band.
    """

    symbol: str
    target: str
    horizon: int = Field(ge=1)
    as_of: date
    target_session: date
    issued_at: datetime
    kind: Literal["live", "late"]
    role: Literal["champion", "challenger"]
    direction: Literal["up", "down", "none", "above", "below"]
    p_up: float = Field(ge=0, le=1)
    p_low: float = Field(ge=0, le=1)
    p_high: float = Field(ge=0, le=1)
    baseline_p_up: float = Field(ge=0, le=1)
    last_close: float = Field(gt=0)
    model_version: str
    data_version: int
    config_digest: str


class ScorePart(Part):
    """One score, with its 95% interval, how many rows and sessions it comes from, and the baseline on the same rows.

    A value is null where the metric is not defined, an interval also where there are too few sessions.
    """

    metric: str
    value: Number
    low: Number
    high: Number
    n: int = Field(ge=0)
    effective_n: Number
    sessions: int = Field(ge=0)
    baseline: str
    baseline_value: Number
    p_value: Number
    t_statistic: Number

    @classmethod
    def read(cls, scores: pd.DataFrame) -> list[Self]:
        """Return the rows of a frame of schema.SCORES."""
        return [cls(**row) for row in list_records(scores, cls.model_fields)]


class SkillPart(Part):
    """Timing or picking: the conclusion, and its evidence."""

    name: str
    conclusion: str
    sentence: str
    value: Number
    low: Number
    high: Number
    p_value: Number
    sessions: int
    baseline: str
    baseline_value: Number


class VerdictPart(Part):
    """The verdict on one output: the log loss saved against the best baseline, its 95% interval and p-value."""

    target: str
    horizon: int
    conclusion: str
    headline: str
    model: str
    baseline: str
    difference: Number
    low: Number
    high: Number
    p_value: Number
    n: int
    sessions: int
    skills: list[SkillPart]

    @classmethod
    def read(cls, verdict: Verdict, output: Output) -> Self:
        """Return the part of a verdict on an output."""
        names = ("conclusion", "headline", "model", "baseline", "difference", "low", "high", "p_value")
        skills = [
            SkillPart(**{name: getattr(skill, name) for name in SkillPart.model_fields})
            for skill in verdict.skills
        ]
        facts: dict[str, Any] = {name: getattr(verdict, name) for name in (*names, "n", "sessions")}
        return cls(target=output.target, horizon=output.horizon, skills=skills, **facts)


def list_records(rows: pd.DataFrame, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows as dictionaries of Python's own types, with these columns alone."""
    return [{str(name): cell for name, cell in row.items()} for row in rows[[*names]].to_dict("records")]
