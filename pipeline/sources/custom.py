"""Custom price sources (`package.module:Name`): import, construct and wrap the user's class."""

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
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

_BUILT_IN = ("sample", "files", "yahoo")
_PAGE = "docs/custom_source.md has a complete example"
EXTENSION_POINT = ExtensionPoint("[universe] source", _PAGE)
"""The setting that names a custom source."""

_MISSING_FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class CustomSource:
    """Wraps a user's object as a PriceSource; `fetch` turns the object's exceptions into outcomes.

    Args:
        written: An object with `fetch(symbol, start, end, now)`; optionally with `name`, `historical`, `is_local`,
            `threads`, `adjustment` and `symbols()`.
        name: The source's name if the object has none.
        adjustment: How the prices are adjusted; `auto` takes the object's attribute, or infers it from the bars.
        historical: Whether the data ended in the past; the object's own attribute may say so too.

    Raises:
        ConfigError: the object is no valid source.
    """

    def __init__(
        self,
        written: object,
        *,
        name: str = "",
        adjustment: Literal["auto"] | Adjustment = "auto",
        historical: bool = False,
    ) -> None:
        self._label = name or type(written).__name__
        _require_fetch(written, self._label)
        self._written: Any = written
        self.name: str = self._read_attribute("name", name or type(written).__name__, str)
        self.historical: bool = historical or self._read_attribute("historical", False, bool)
        self.is_local: bool = self._read_attribute("is_local", False, bool)
        self.threads: int = self._read_attribute("threads", 1, int)
        self._adjustment: Any = adjustment
        if adjustment == "auto":
            self._adjustment = self._read_attribute("adjustment", "auto", str)
        self._limited = ""
        self._told = dict[str, str]()
        if not re.fullmatch(r"[A-Za-z0-9_.:+-]{1,100}", self.name):
            raise self._config_error(
                f"name = {quoted(self.name)} is invalid: use letters, digits and _ . : + -"
            )
        if self._adjustment not in ("auto", *get_args(Adjustment)):
            raise self._config_error(
                f"adjustment = {quoted(self._adjustment)} is invalid: use raw, split, split+dividend or auto"
            )
        if self.threads < 1:
            raise self._config_error(f"threads = {self.threads} is invalid: use 1 or more")
        if not callable(getattr(written, "symbols", list)):
            raise self._config_error("symbols is no method")

    def symbols(self) -> list[str]:
        """Return the symbols that the source lists, sorted; empty if it lists none.

        Raises:
            SourceError: the method failed, or listed an invalid symbol.
        """
        try:
            listed = list(getattr(self._written, "symbols", list)())
        except Exception as error:
            raise self._symbols_error(f"failed: {_describe(error)}") from None
        if not all(isinstance(symbol, str) for symbol in listed):
            raise self._symbols_error("lists a value that is no text")
        if listed and (bad := find_bad_symbol(pd.Series(listed, dtype=str))) is not None:
            raise self._symbols_error(f"lists {quoted(listed[bad])}; {SYMBOL_FIX}")
        return sorted(set(listed))

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on; exceptions and invalid answers become outcomes.

        After the first `rate_limited` the object is not called again: later calls return `rate_limited` at once.
        """
        if self._limited:
            return Fetched(symbol, "rate_limited", now, reason=self._limited)
        try:
            answer = self.fetch_raw(symbol, start, end, now)
            fetched = as_fetched(answer, symbol, start, end, now, adjustment=self._adjustment)
        except AnswerError as error:
            return Fetched(symbol, "bad_payload", now, reason=f"{self._label}: {error}")
        except Exception as error:
            outcome, reason = _explain(error)
            fetched = Fetched(symbol, outcome, now, reason=f"{self._label}: {reason}")
        # The first symbol with it has the finding: one is enough.
        told = [
            finding for finding in fetched.findings if self._told.setdefault(finding[2], symbol) == symbol
        ]
        fetched = replace(fetched, findings=tuple(told))
        if fetched.outcome == "rate_limited":
            self._limited = fetched.reason
        return fetched

    def fetch_raw(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> object:
        """Return the unchecked answer of the user's `fetch`."""
        answer: object = self._written.fetch(symbol, start, end, now)
        return answer

    def _read_attribute(self, attribute: str, default: Any, kind: type) -> Any:
        value = getattr(self._written, attribute, default)
        if not isinstance(value, kind):
            raise self._config_error(f"{attribute} = {quoted(value)} is no {kind.__name__}")
        return value

    def _config_error(self, what: str) -> ConfigError:
        return ConfigError(f"{self._label}: {what}", where="[universe] source", fix=f"fix it; {_PAGE}")

    def _symbols_error(self, what: str) -> SourceError:
        return SourceError(
            f"The symbols() of {self._label} {what}",
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
    """Import a custom source and construct it.

    `folder` is appended to `sys.path` for good, so that the source can import neighbouring modules at any time.

    Args:
        place: `package.module:Name`, where calling Name with the options returns an object with `fetch`.
        folder: The folder of nextday.toml.
        options: [universe] source_options.
        adjustment: [prices] adjustment.
        historical: [universe] historical.

    Raises:
        ConfigError: the module or name does not exist, the call fails, or its result is no valid source.
    """
    written = _construct(_import(place, folder), place, options)
    source = CustomSource(written, name=place, adjustment=adjustment, historical=historical)
    if source.name in _BUILT_IN:
        raise EXTENSION_POINT.refuse(
            f"{place}: the name {source.name!r} belongs to a built-in source", "give it another `name`"
        )
    return source


def _import(place: str, folder: Path) -> Any:
    found = find_code(place, folder, EXTENSION_POINT)
    if not callable(found):
        raise EXTENSION_POINT.refuse(
            f"{place} is no class and no function, but {type(found).__name__}", _PAGE
        )
    return found


def _construct(factory: Any, place: str, options: Mapping[str, Any]) -> object:
    try:
        return factory(**options)
    except NextdayError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(options) or "no options"
        raise EXTENSION_POINT.refuse(
            f"{place} cannot be made with {given}: {_describe(error)}",
            "fix [universe] source_options, or the source",
        ) from None


def _require_fetch(written: object, label: str) -> None:
    fetch, fault = getattr(written, "fetch", None), ""
    if isinstance(written, type):
        fault = f"this is the class itself: create an object with {label}()"
    elif not callable(fetch):
        fault = f"there is no method fetch(symbol, start, end, now) on {type(written).__name__}"
    elif inspect.iscoroutinefunction(fetch):
        fault = "fetch is async: write a synchronous method"
    else:
        try:
            inspect.signature(fetch).bind("A", None, None, None)
        except TypeError as error:
            fault = f"fetch must accept (symbol, start, end, now): {error}"
        except ValueError:  # written in C: its signature is unknown
            return
    if fault:
        raise ConfigError(f"{label}: {fault}", where="[universe] source", fix=f"fix it; {_PAGE}")


def _explain(error: Exception) -> tuple[Outcome, str]:
    """Return the outcome for an exception of the user's code, and a sentence for it that contains no secrets."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int) and 400 <= status < 600:
        # The error's own message may contain the whole URL with an API key.
        answer = f"the server answered {status}"
        if status in (404, 410):
            return "not_found", f"{answer}: it knows no such symbol"
        if status == 429:
            return "rate_limited", f"{answer}: too many requests, try again later"
        return ("transient" if status >= 500 or status == 408 else "bad_payload"), answer
    return ("transient" if _is_network_error(error) else "bad_payload"), f"fetch raised {_describe(error)}"


def _is_network_error(error: Exception) -> bool:
    httpx = sys.modules.get("httpx")  # code that raises its errors has imported it
    network = (OSError, *([httpx.TransportError] if httpx else []))
    return isinstance(error, network) and not isinstance(error, _MISSING_FILES)


def _describe(error: BaseException) -> str:
    return describe_error(error, but=[__file__])
