"""The settings of [promotion]: when a newly trained model replaces the champion."""

from typing import Literal

from pydantic import Field

from pipeline.config_section import Section

__all__ = ["PromotionConfig"]


class PromotionConfig(Section):
    """When a challenger becomes champion.

    Attributes:
        rule: "challenger": after it has forecast beside the champion; "always": at once; "never": by hand only.
        min_sessions: Settled sessions on which both have forecast.
        confidence: 1 less the chance that a model that is no better is ever called better.
        max_age: Sessions after which a challenger that is not worse replaces the champion for its age.
    """

    rule: Literal["challenger", "always", "never"] = "challenger"
    min_sessions: int = Field(20, ge=1, le=2520)
    confidence: float = Field(0.95, ge=0.5, le=0.999)
    max_age: int = Field(63, ge=1, le=2520)
