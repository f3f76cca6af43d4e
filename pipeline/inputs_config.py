"""The settings of what the network sees of each session."""

from typing import Final

from pydantic import field_validator

from pipeline.config_section import Section
from pipeline.plugins import is_custom_code

__all__ = ["ADDITIONS", "FeaturesConfig"]

ADDITIONS: Final = ("calendar", "sector")
"""The groups of columns that can be added to a feature set, in the order of their columns."""


class FeaturesConfig(Section):
    """What the network sees of each session."""

    set: str = "default"
    add: tuple[str, ...] = ()

    @property
    def is_custom(self) -> bool:
        """Whether the set is custom code."""
        return ":" in self.set

    @field_validator("set")
    @classmethod
    def _check_set(cls, name: str) -> str:
        built_in = ("default", "own", "relative", "default16", "closes", "alstm11", "returns31", "wide")
        if name not in built_in and not is_custom_code(name):
            raise ValueError(f"write {', '.join(built_in)}, or package.module:NAME for a custom feature set")
        return name

    @field_validator("add")
    @classmethod
    def _check_add(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len({*names} & {*ADDITIONS}) < len(names):
            listed = ", ".join(f'"{name}"' for name in ADDITIONS)
            raise ValueError(f"write some of {listed}, each once, in brackets")
        return tuple(name for name in ADDITIONS if name in names)
