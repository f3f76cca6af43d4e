"""The settings of what the network sees of each session."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config_section import Plain, Section, Symbol
from pipeline.plugins import is_custom_code, plain_options

__all__ = ["ADDITIONS", "ContextConfig", "FeaturesConfig", "Lag"]

ADDITIONS: Final = ("calendar", "sector", "context")
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


_LAG: Final = re.compile(r"(\d{1,5}) (session|minute|hour|day)s?")
_MOST: Final = {"session": 60, "minute": 60 * 24, "hour": 24 * 30, "day": 365}


@dataclass(frozen=True)
class Lag:
    """How long after the close of its session a value is known: sessions of its own calendar, or a duration."""

    sessions: int = 0
    duration: timedelta = timedelta(0)


class ContextConfig(Section):
    """Series beside the constituents that the network reads and that are never forecast."""

    symbols: tuple[Symbol, ...] = ()
    source: str = ""
    source_options: dict[str, Plain] = Field(default_factory=dict)
    path: str = ""
    calendar: str | dict[Symbol, str] = ""
    lag: str | dict[Symbol, str] = ""
    missing: Literal["carry", "mask"] = "carry"

    @property
    def has_custom_source(self) -> bool:
        """Whether the source is custom code of its own."""
        return ":" in self.source

    @property
    def joined(self) -> tuple[object, ...]:
        """What decides which value is read when: two settings with the same are read alike."""
        each = tuple((symbol, self.calendar_of(symbol), self.lag_of(symbol)) for symbol in self.symbols)
        return (each, self.missing)

    def calendar_of(self, symbol: str) -> str:
        """Return the name of the symbol's calendar, "" for the universe's."""
        return _of(self.calendar, symbol)

    def lag_of(self, symbol: str) -> Lag:
        """Return how long after the close of its session a value of the symbol is known."""
        found = _LAG.fullmatch(_of(self.lag, symbol))
        if found is None:
            return Lag()
        count, unit = int(found[1]), found[2]
        return Lag(sessions=count) if unit == "session" else Lag(duration=timedelta(**{f"{unit}s": count}))

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if source not in ("", "sample", "files", "yahoo") and not is_custom_code(source):
            raise ValueError(
                "write sample, files, yahoo, or package.module:Name for a custom source; empty: the universe's"
            )
        return source

    @field_validator("source_options", mode="before")
    @classmethod
    def _check_options(cls, options: object) -> object:
        return plain_options(options)

    @field_validator("calendar", "lag", mode="before")
    @classmethod
    def _check_table(cls, given: object) -> object:
        texts = [*given, *given.values()] if isinstance(given, dict) else [given]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError('write one text for all series, or one for each: { "^N225" = "..." }')
        return given

    @field_validator("lag")
    @classmethod
    def _check_lag(cls, lag: str | dict[str, str]) -> str | dict[str, str]:
        for text in [lag] if isinstance(lag, str) else lag.values():
            found = _LAG.fullmatch(text)
            if text and (found is None or int(found[1]) > _MOST[found[2]]):
                raise ValueError(
                    'write "1 session", "15 minutes", "18 hours" or "7 days" (60 sessions, 365 days at most), or one '
                    'for each series: { "DGS10" = "1 session" }'
                )
        return lag

    @model_validator(mode="after")
    def _check_series(self) -> Self:
        if not self.symbols and self != ContextConfig.model_construct():
            raise ValueError('symbols is empty: name the series, e.g. symbols = ["^VIX", "^TNX"]')
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols contains a symbol twice")
        for key, given in (("calendar", self.calendar), ("lag", self.lag)):
            unknown = sorted(set(given) - set(self.symbols)) if isinstance(given, dict) else []
            if unknown:
                raise ValueError(f"{key} names {', '.join(unknown)}, which symbols does not")
        if self.source == "files" and not self.path:
            raise ValueError(
                "source = 'files' needs path: a CSV or Parquet file, or a folder with a file per symbol"
            )
        if self.path and self.source != "files":
            raise ValueError("path is for source = 'files'")
        if self.source_options and not self.has_custom_source:
            raise ValueError("source_options are for a custom source: source = 'package.module:Name'")
        return self


def _of(given: str | dict[str, str], symbol: str) -> str:
    return given if isinstance(given, str) else given.get(symbol, "")
