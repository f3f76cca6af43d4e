"""All trials of a universe: every setting that was ever tried, in an append-only file with one line per trial.

The best of many trials is partly the luckiest. How much of it is luck depends on the number of trials and on the spread
of their results (Bailey and López de Prado 2014, "The deflated Sharpe ratio"), so both are kept, rejected trials
included. A second file holds the number of bytes and their sha256: a line that was changed or cut off is noticed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.config import Config, digest
from pipeline.errors import NextdayError, StoreError
from pipeline.formatting import count
from pipeline.storage.files import hold_lock, write_text

__all__ = [
    "Parameters",
    "State",
    "Trial",
    "TrialBook",
    "TrialCounts",
    "count_settings",
    "digest_procedure",
    "list_parameters",
    "list_sharpes",
]

_PROCEDURE: Final = ("features", "context", "labels", "model", "training", "calibration", "evaluation")
_LOCK_SECONDS: Final = 60.0

State = Literal["complete", "pruned", "failed"]
Parameters = dict[str, str | int | float | bool]
"""Settings by their place in nextday.toml, e.g. "model.units"."""


@dataclass(frozen=True)
class Trial:
    """One trial: settings and their result.

    Attributes:
        kind: search: scored on slices of the training data; test: scored on the test rows, by a training.
        when: The time of the run, UTC.
        digest: Digest of the settings that define the procedure, see `digest_procedure`.
        state: complete, pruned (stopped early because others were better by then) or failed.
        parameters: The parameters that a search chose; of a test, all of [model] and [training].
        objective: Mean over sessions of the sessions' mean log loss; of a pruned trial, over the sessions it reached;
            None if it failed.
        folds: The same for each slice.
        sessions: Number of sessions of the objective.
        losses: Mean log loss of each session, by time.
        as_of: The last session of the prices, as text.
        data_version: The price store's version.
        study: The search that it belongs to; empty for a test.
        number: Its number in that search, from 0.
        sharpe: Of a backtest, the Sharpe ratio of its trading net of costs, per session, not annualized; None if it
            has none, or was recorded before Sharpe ratios were.
    """

    kind: Literal["search", "test"]
    when: datetime
    digest: str
    state: State
    parameters: Parameters
    objective: float | None
    folds: tuple[float, ...]
    sessions: int
    losses: tuple[float, ...]
    as_of: str
    data_version: int
    study: str = ""
    number: int = 0
    sharpe: float | None = None

    @property
    def key(self) -> tuple[str, str, str, int, int, str, bool]:
        """The identity of a trial: a run that was killed and repeated has the same.

        A trial recorded without its Sharpe ratio may be recorded again with it; it does not count as another setting.
        """
        is_known = self.sharpe is not None
        return self.kind, self.digest, self.study, self.number, self.data_version, self.as_of, is_known


@dataclass(frozen=True)
class TrialCounts:
    """Numbers of different settings that were tried.

    Attributes:
        settings: In all.
        searched: In searches, on slices of the training data.
        tested: In trainings, on the test rows.
    """

    settings: int
    searched: int
    tested: int

    @property
    def sentence(self) -> str:
        """The counts as text; empty if nothing was tried."""
        if not self.settings:
            return ""
        were = "was" if self.settings == 1 else "were"
        return (
            f"{count(self.settings, 'setting')} {were} tried on this universe: {self.tested} scored on test rows, "
            f"{self.searched} searched inside the training data."
        ) + (" The best of many is partly the luckiest." if self.settings > 1 else "")


@dataclass(frozen=True)
class TrialBook:
    """The trials of one universe.

    Attributes:
        path: The file: one line of JSON per trial.
    """

    path: Path

    @property
    def checksum(self) -> Path:
        """The file with the checksum of the trials; one of an earlier nextday has none until the next trial."""
        return self.path.with_suffix(".sha256")

    def add(self, trial: Trial) -> None:
        """Append a trial, durably; one that is already recorded is not written again.

        A partial line that a killed process left at the end is removed.

        Raises:
            NextdayError: the file cannot be written, or another process held it for a minute.
            StoreError: a complete line is damaged, or lines that were written are missing.
        """
        with hold_lock(self.path.with_suffix(".lock"), _LOCK_SECONDS, f"the trials in {self.path}"):
            if trial.key in {each.key for each in self.read()}:
                return
            line = json.dumps(asdict(trial) | {"when": trial.when.isoformat()}, allow_nan=False)
            try:
                with self.path.open("ab") as file:
                    file.truncate(len(self._whole_lines()))
                    file.write(f"{line}\n".encode())
                    file.flush()
                    os.fsync(file.fileno())
                content = self._whole_lines()
                write_text(self.checksum, f"{hashlib.sha256(content).hexdigest()}  {len(content)}\n")
            except OSError as error:
                raise NextdayError(
                    f"The trial cannot be recorded: {error.strerror}",
                    where=str(self.path),
                    fix="check the file's permissions and the free space, then run this again",
                ) from None

    def read(self, until: datetime | None = None) -> list[Trial]:
        """Return the trials in the order in which they were written.

        Args:
            until: Leave out the trials of later runs.

        Raises:
            StoreError: a line is damaged, or lines that were written are missing.
        """
        lines = self._whole_lines().decode(errors="replace").splitlines()
        trials = [self._parse(number, line) for number, line in enumerate(lines, start=1)]
        return [trial for trial in trials if until is None or trial.when <= until]

    def _whole_lines(self) -> bytes:
        try:
            checksum = (
                self.checksum.read_text(encoding="utf-8", errors="replace") if self.checksum.exists() else ""
            )
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise StoreError(
                f"The trials cannot be read: {error.strerror}",
                where=str(self.path),
                fix="check the file and its permissions",
            ) from None
        digest, _, size = checksum.strip().partition("  ")
        noted = content[: int(size)] if size.isdecimal() else b""
        if checksum and digest != hashlib.sha256(noted).hexdigest():
            raise StoreError(
                "The trials were changed or cut, compared with their checksum",
                where=str(self.path),
                fix=f"restore both files from a backup; to count on what is left, delete {self.checksum}",
            )
        return content[: content.rfind(b"\n") + 1]

    def _parse(self, number: int, line: str) -> Trial:
        try:
            facts: dict[str, Any] = json.loads(line)
            facts |= {name: tuple(facts[name]) for name in ("folds", "losses")}
            return Trial(**facts | {"when": datetime.fromisoformat(facts["when"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"Line {number} of the trials cannot be read: {error!r:.200}",
                where=str(self.path),
                fix="restore the file from a backup: without it the number of settings tried is unknown",
            ) from None


def count_settings(trials: Iterable[Trial]) -> TrialCounts:
    """Return the number of different settings of the trials; a setting tried again counts once."""
    kinds: dict[str, set[str]] = {"search": set(), "test": set()}
    for trial in trials:
        kinds[trial.kind].add(trial.digest)
    return TrialCounts(len(kinds["search"] | kinds["test"]), len(kinds["search"]), len(kinds["test"]))


def list_sharpes(trials: Iterable[Trial]) -> list[float]:
    """Return the Sharpe ratio per session of each setting that has one, from its newest trial."""
    return list({trial.digest: trial.sharpe for trial in trials if trial.sharpe is not None}.values())


def list_parameters(config: Config) -> Parameters:
    """Return the settings of [model] and [training], by their place in nextday.toml."""
    sections = config.resolved()
    return {
        f"{section}.{name}": json.dumps(value) if isinstance(value, dict) else value
        for section in ("model", "training")
        for name, value in sections[section].items()
    }


def digest_procedure(config: Config, code: Mapping[str, str] | None = None) -> str:
    """Return the digest of everything that decides a procedure's score: settings, but not names, source or schedule.

    Args:
        config: The settings.
        code: Digests of custom code; none if there is none.
    """
    resolved = config.resolved()
    settings = {name: section for name, section in resolved.items() if name in _PROCEDURE}
    settings |= {key: resolved["universe"][key] for key in ("sector",) if key in resolved["universe"]}
    return digest(settings | dict(code or {}))
