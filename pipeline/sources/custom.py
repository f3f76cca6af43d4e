"""A source of one's own, `package.module:Name`: found, made, and kept from doing harm."""

import inspect
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from pipeline.errors import ConfigError, NextdayError, SourceError, quoted
from pipeline.market.corporate_actions import Adjustment
from pipeline.plugins import ExtensionPoint, describe_error, find_code
from pipeline.schema import SYMBOL_FIX, find_bad_symbol
from pipeline.sources import Fetched, Outcome
from pipeline.sources.answers import AnswerError, as_fetched

__all__ = ["EXTENSION_POINT", "CustomSource", "load_source"]

_TAKEN = ("sample", "files", "yahoo")
_PAGE = "docs/custom_source.md shows a whole one"
EXTENSION_POINT = ExtensionPoint("[universe] source", _PAGE)
"""Where such a source is named."""

_MISSING_FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class CustomSource:
    """What somebody wrote, as a PriceSource that keeps the rules: no error of it gets past `fetch`.

    Args:
        written: An object with `fetch(symbol, start, end, now)`. It may have `name`, `historical`, `is_local`,
            `threads`, `adjustment` and `symbols()` too.
        name: Its name where it has none of its own.
        adjustment: What was done to the prices; `auto` leaves it to the object, or finds it out from its bars.
        historical: Whether the data ended in the past; the object may say so itself.

    Raises:
        ConfigError: the object is no such source.
    """

    def __init__(
        self,
        written: object,
        *,
        name: str = "",
        adjustment: Literal["auto"] | Adjustment = "auto",
        historical: bool = False,
    ) -> None:
        self._said = name or type(written).__name__
        _require_fetch(written, self._said)
        self._written: Any = written
        self.name: str = self._stated("name", name or type(written).__name__, str)
        self.historical: bool = historical or self._stated("historical", False, bool)
        self.is_local: bool = self._stated("is_local", False, bool)
        self.threads: int = self._stated("threads", 1, int)
        self._adjustment: Any = adjustment
        if adjustment == "auto":
            self._adjustment = self._stated("adjustment", "auto", str)
        self._limited = ""
        if not re.fullmatch(r"[A-Za-z0-9_.:+-]{1,100}", self.name):
            raise self._wrong(f"name = {quoted(self.name)} is none: write letters, digits and _ . : + -")
        if self._adjustment not in ("auto", *get_args(Adjustment)):
            raise self._wrong(
                f"adjustment = {quoted(self._adjustment)}: write raw, split, split+dividend or auto"
            )
        if self.threads < 1:
            raise self._wrong(f"threads = {self.threads}: write 1 or more")
        if not callable(getattr(written, "symbols", list)):
            raise self._wrong("symbols is no method")

    def symbols(self) -> list[str]:
        """Return the symbols that the source lists, sorted; empty if it lists none.

        Raises:
            SourceError: it failed, or listed what can be no symbol.
        """
        try:
            listed = list(getattr(self._written, "symbols", list)())
        except Exception as error:
            raise self._no_list(f"failed: {_told(error)}") from None
        if not all(isinstance(symbol, str) for symbol in listed):
            raise self._no_list("lists something that is no text")
        if listed and (bad := find_bad_symbol(pd.Series(listed, dtype=str))) is not None:
            raise self._no_list(f"lists {quoted(listed[bad])}; {SYMBOL_FIX}")
        return sorted(set(listed))

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on; whatever was raised or returned wrongly is an outcome.

        The first "too many requests" ends the asking: later calls answer `rate_limited` without one.
        """
        if self._limited:
            return Fetched(symbol, "rate_limited", now, reason=self._limited)
        try:
            answer = self.ask(symbol, start, end, now)
            fetched = as_fetched(answer, symbol, start, end, now, adjustment=self._adjustment)
        except AnswerError as broken:
            return Fetched(symbol, "bad_payload", now, reason=f"{self._said}: {broken}")
        except Exception as error:
            outcome, reason = _explain(error)
            fetched = Fetched(symbol, outcome, now, reason=f"{self._said}: {reason}")
        if fetched.outcome == "rate_limited":
            self._limited = fetched.reason
        return fetched

    def ask(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> object:
        """Return what the written method returns, raw."""
        answer: object = self._written.fetch(symbol, start, end, now)
        return answer

    def _stated(self, attribute: str, default: Any, kind: type) -> Any:
        value = getattr(self._written, attribute, default)
        if not isinstance(value, kind):
            raise self._wrong(f"{attribute} = {quoted(value)} is no {kind.__name__}")
        return value

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._said}: {what}", where="[universe] source", fix=f"fix it; {_PAGE}")

    def _no_list(self, what: str) -> SourceError:
        return SourceError(
            f"The symbols() of {self._said} {what}",
            where="[universe] source",
            fix="fix it, or name the universe with [universe] symbols or file",
        )


def load_source(
    place: str,
    folder: Path,
    options: Mapping[str, Any],
    *,
    adjustment: Literal["auto"] | Adjustment = "auto",
    historical: bool = False,
) -> CustomSource:
    """Find a source by its name and make it.

    `folder` becomes the last place that Python looks for modules in, and stays it: the source may import its
    neighbours at any time.

    Args:
        place: `package.module:Name`, where Name called with the options gives an object with `fetch`.
        folder: Where nextday.toml lies.
        options: [universe] source_options.
        adjustment: As [prices] adjustment has it.
        historical: As [universe] historical has it.

    Raises:
        ConfigError: there is no such module or name, it fails, or what it makes is no source.
    """
    made = _make(_find(place, folder), place, options)
    source = CustomSource(made, name=place, adjustment=adjustment, historical=historical)
    if source.name in _TAKEN:
        raise EXTENSION_POINT.refuse(f"{place}: the name {source.name!r} is taken", "give it another `name`")
    return source


def _find(place: str, folder: Path) -> Any:
    found = find_code(place, folder, EXTENSION_POINT)
    if not callable(found):
        raise EXTENSION_POINT.refuse(
            f"{place} is no class and no function, but {type(found).__name__}", _PAGE
        )
    return found


def _make(maker: Any, place: str, options: Mapping[str, Any]) -> object:
    try:
        return maker(**options)
    except NextdayError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(options) or "no options"
        raise EXTENSION_POINT.refuse(
            f"{place} cannot be made with {given}: {_told(error)}",
            "correct [universe] source_options, or the source",
        ) from None


def _require_fetch(written: object, said: str) -> None:
    fetch, fault = getattr(written, "fetch", None), ""
    if isinstance(written, type):
        fault = f"this is the class itself: make an object of it, {said}()"
    elif not callable(fetch):
        fault = f"there is no method fetch(symbol, start, end, now) on {type(written).__name__}"
    elif inspect.iscoroutinefunction(fetch):
        fault = "fetch is async: write a plain method"
    else:
        try:
            inspect.signature(fetch).bind("A", None, None, None)
        except TypeError as error:
            fault = f"fetch is called with symbol, start, end, now: {error}"
        except ValueError:  # written in C: it shows when it is called
            return
    if fault:
        raise ConfigError(f"{said}: {fault}", where="[universe] source", fix=f"fix it; {_PAGE}")


def _explain(error: Exception) -> tuple[Outcome, str]:
    """Return the outcome that an error of somebody else's code means, and a sentence without secrets."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int) and 400 <= status < 600:
        # Its text may hold the whole address, with a key in it.
        told = f"the server answered {status}"
        if status in (404, 410):
            return "not_found", f"{told}: it knows no such symbol"
        if status == 429:
            return "rate_limited", f"{told}: too many requests, ask again later"
        return ("transient" if status >= 500 or status == 408 else "bad_payload"), told
    return ("transient" if _is_of_the_network(error) else "bad_payload"), f"fetch raised {_told(error)}"


def _is_of_the_network(error: Exception) -> bool:
    httpx = sys.modules.get("httpx")  # whoever raises its errors has loaded it
    network = (OSError, *([httpx.TransportError] if httpx else []))
    return isinstance(error, network) and not isinstance(error, _MISSING_FILES)


def _told(error: BaseException) -> str:
    return describe_error(error, but=[__file__])
