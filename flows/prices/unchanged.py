"""Recognize that a run would read the same prices again: then they are neither read nor checked a second time."""

import hashlib
import json
from collections.abc import Sequence

import pandas as pd

from flows.prices.fetch import Answers, describe_answers
from flows.prices.missing import Reasons
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.sources import find_reading
from pipeline.formatting import count
from pipeline.prices.ingest.last_reading import LastReading, digest_code, save_reading
from pipeline.sources.files import FilesSource

__all__ = ["find_unchanged", "keep_reading", "recall_reading"]


def recall_reading(run: Run) -> LastReading | None:
    """Return what the last run read; None where this one may read something else, or come to another result."""
    found = find_reading(run.source, run.workspace, run.name)
    return found if found and found.circumstances == _digest_circumstances(run) else None


def find_unchanged(run: Run) -> LastReading | None:
    """Return what the last run read, and say so; None where this run may come to another result."""
    found = recall_reading(run)
    if found is None:
        return None
    for line in found.lines:
        log_line(line)
    log_line(
        f"unchanged since the last run: {count(found.bars, 'bar')} are not read and checked again, "
        f"{count(len(found.findings), 'finding')} as then"
    )
    return found


def keep_reading(run: Run, answers: Answers, findings: pd.DataFrame, reasons: Reasons) -> None:
    """Keep what was read from the user's files, unless they have changed meanwhile, and free the files' content.

    Raises:
        NextdayError: it cannot be written.
    """
    source = run.source
    if not isinstance(source, FilesSource):
        return
    files, symbols = source.digest_when_read(), source.symbols()
    source.forget()
    if not files or files != source.digest() or set(answers) != set(run.universe.symbols):
        return
    bars = [answer.bars["session"] for answer in answers.values() if answer.outcome == "ok"]
    closed = [sessions[sessions <= run.last_closed].max() for sessions in bars]
    save_reading(
        run.workspace.last_reading(run.name),
        LastReading(
            files=files,
            code=digest_code(),
            circumstances=_digest_circumstances(run),
            symbols=symbols,
            newest=max((session for session in closed if pd.notna(session)), default=None),
            bars=sum(map(len, bars)),
            findings=findings,
            reasons=reasons.by_symbol,
            was_open=reasons.was_open,
            calendars=reasons.calendars,
            lines=describe_answers(run, answers),
        ),
    )


def _digest_circumstances(run: Run) -> str:
    held: Sequence[object] = sorted(map(repr, run.fetch_log.quarantined().values()))
    facts = [run.digest, str(run.last_closed), str(run.today), run.store.seq(), run.store.sources(), held]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
