"""The settings of the decay alarm."""

from typing import Literal

from pipeline.config_section import Section

__all__ = ["AlarmConfig"]


class AlarmConfig(Section):
    """What happens when the live record has decayed."""

    on_decay: Literal["tell", "stop"] = "tell"
