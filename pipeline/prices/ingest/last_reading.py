"""What the last run read from the user's files: as long as nothing has changed, they need not be read again.

The file is in the cache: without it, or with a damaged one, a run reads everything again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pandas as pd

import pipeline
from pipeline.prices.ingest.quality import FINDING_COLUMNS, no_findings
from pipeline.storage.files import write_text

__all__ = ["LastReading", "digest_code", "load_reading", "save_reading"]


@dataclass(frozen=True, eq=False)
class LastReading:
    """The result of reading and checking the files of a universe.

    Attributes:
        files: The digest of the files.
        code: The digest of the code that read and checked them.
        circumstances: The digest of all else that decides the result: settings, session, and the stored prices.
        symbols: The symbols in the files, sorted.
        newest: The newest session that had closed; None without one.
        bars: Number of bars read.
        findings: What the checks found (quality.FINDING_COLUMNS).
        reasons: Why a symbol may have no bar, by symbol.
        was_open: Whether there was a row of the last closed session.
        calendars: The calendar of each symbol that trades on another exchange; None where none is known.
        lines: How the files were read, in sentences for the log.
    """

    files: str
    code: str
    circumstances: str
    symbols: Sequence[str]
    newest: pd.Timestamp | None
    bars: int
    findings: pd.DataFrame
    reasons: Mapping[str, str]
    was_open: bool
    calendars: Mapping[str, str | None]
    lines: Sequence[str]


_LIBRARIES: Final = ("exchange-calendars", "numpy", "pandas", "pandera", "pyarrow")


@cache
def digest_code() -> str:
    """Return a digest of the code that reads and checks files: another version may come to another result."""
    digest = hashlib.sha256(" ".join(map(version, _LIBRARIES)).encode())
    package = Path(pipeline.__file__).parent
    for path in sorted([*package.rglob("*.py"), *package.parent.glob("flows/prices/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def save_reading(path: Path, reading: LastReading) -> None:
    """Write the file.

    Raises:
        NextdayError: it cannot be written.
    """
    sessions = pd.to_datetime(reading.findings["session"]).dt.strftime("%Y-%m-%d")
    findings = reading.findings.assign(session=sessions).astype(str)
    content = {
        **vars(reading),
        "newest": None if reading.newest is None else f"{reading.newest:%Y-%m-%d}",
        "findings": {name: findings[name].tolist() for name in FINDING_COLUMNS},
    }
    text = json.dumps(content)
    write_text(path, f"{_digest(text)}\n{text}\n")


def load_reading(path: Path) -> LastReading | None:
    """Return what the file holds; None if it is missing or damaged, or another version wrote it."""
    try:
        digest, text = path.read_text(encoding="utf-8").rstrip("\n").split("\n", 1)
        content = json.loads(text)
        return _restore(content) if digest == _digest(text) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _restore(content: dict[str, Any]) -> LastReading:
    findings = pd.DataFrame(content["findings"], columns=FINDING_COLUMNS, dtype=object)
    sessions = pd.to_datetime(findings["session"]).astype("datetime64[us]").astype(object)
    newest = content["newest"]
    return LastReading(
        **{
            **content,
            "newest": None if newest is None else pd.Timestamp(newest).as_unit("us"),
            "findings": no_findings() if findings.empty else findings.assign(session=sessions),
        }
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
