"""Every setting that was ever tried on a universe: one line a trial, only ever added to.

The best of many trials is partly the luckiest. How much of it is luck depends on how many there were and on how far
their results lie apart (Bailey and López de Prado 2014, "The deflated Sharpe ratio"), so both are kept, also of the
trials that nobody liked.
"""

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
from pipeline.storage.files import hold_lock

__all__ = [
    "Parameters",
    "State",
    "Trial",
    "TrialBook",
    "Tried",
    "count_settings",
    "digest_procedure",
    "list_parameters",
    "list_sharpes",
]

_PROCEDURE: Final = ("features", "labels", "model", "training", "calibration", "evaluation")
_LOCK_SECONDS: Final = 60.0

State = Literal["complete", "pruned", "failed"]
Parameters = dict[str, str | int | float | bool]
"""Settings by their place in nextday.toml, e.g. "model.units"."""


@dataclass(frozen=True)
class Trial:
    """One setting, tried.

    Attributes:
        kind: search: on slices of the training data; test: on the test rows, by a training.
        when: The time of the run, UTC.
        digest: Of the settings that make the procedure, see `digest_procedure`.
        state: complete, pruned (it was ended early, for others were better by then) or failed.
        parameters: What a search chose; of a test, all of [model] and [training].
        objective: Mean over sessions of the sessions' mean log loss, of a pruned one over those it came to; None
            where it failed.
        folds: The same of each slice.
        sessions: How many sessions the objective stands on.
        losses: The mean log loss of each session, in order of time.
        as_of: The last session of the prices, as text.
        data_version: The price store's version.
        study: Which search it belongs to; empty for the test.
        number: Its place in that search, from 0.
        sharpe: Of a backtest, the Sharpe ratio of its trading after costs, of one session, not of a year; None where it
            has none, or where it was written down before these were kept.
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
        """What two lines of one trial have in common: a run that was killed and done again.

        One that was written down without its Sharpe ratio may be done again for it: it is no further setting.
        """
        is_known = self.sharpe is not None
        return self.kind, self.digest, self.study, self.number, self.data_version, self.as_of, is_known


@dataclass(frozen=True)
class Tried:
    """How many different settings were tried.

    Attributes:
        settings: In all.
        searched: By searches, on slices of the training data.
        tested: By trainings, on the test rows.
    """

    settings: int
    searched: int
    tested: int

    @property
    def sentence(self) -> str:
        """The same in words; empty where nothing was tried."""
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
        path: The file: a line of JSON a trial.
    """

    path: Path

    def add(self, trial: Trial) -> None:
        """Write a trial down for good; one that stands already is not written twice.

        What a killed writer left of a line is cut off: that trial was never whole.

        Raises:
            NextdayError: the file cannot be written, or another process held it for a minute.
            StoreError: a line that was whole is damaged.
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
            except OSError as error:
                raise NextdayError(
                    f"The trial cannot be written down: {error.strerror}",
                    where=str(self.path),
                    fix="look at the file's rights and the free space, then run this again",
                ) from None

    def read(self, until: datetime | None = None) -> list[Trial]:
        """Return the trials in the order in which they were written.

        Args:
            until: Leave out those of later runs.

        Raises:
            StoreError: a line is damaged.
        """
        lines = self._whole_lines().decode(errors="replace").splitlines()
        trials = [self._parse(number, line) for number, line in enumerate(lines, start=1)]
        return [trial for trial in trials if until is None or trial.when <= until]

    def _whole_lines(self) -> bytes:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(
                f"The trials cannot be read: {error.strerror}",
                where=str(self.path),
                fix="look at the file and its rights",
            ) from None
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
                fix="put the file back from a backup: without it nobody knows how many settings were tried",
            ) from None


def count_settings(trials: Iterable[Trial]) -> Tried:
    """Return how many different settings the trials are of; one that was tried again is no further one."""
    kinds: dict[str, set[str]] = {"search": set(), "test": set()}
    for trial in trials:
        kinds[trial.kind].add(trial.digest)
    return Tried(len(kinds["search"] | kinds["test"]), len(kinds["search"]), len(kinds["test"]))


def list_sharpes(trials: Iterable[Trial]) -> list[float]:
    """Return the Sharpe ratio, of one session, of each setting that has one: of its newest trial."""
    return list({trial.digest: trial.sharpe for trial in trials if trial.sharpe is not None}.values())


def list_parameters(config: Config) -> Parameters:
    """Return what the settings say about the network and its training, by their place."""
    sections = config.resolved()
    return {
        f"{section}.{name}": json.dumps(value) if isinstance(value, dict) else value
        for section in ("model", "training")
        for name, value in sections[section].items()
    }


def digest_procedure(config: Config, code: Mapping[str, str] | None = None) -> str:
    """Return the digest of what decides how a procedure scores: settings, but not names, source or schedule.

    Args:
        config: The settings.
        code: Digests of the user's own code; none: all of it is ours.
    """
    settings = {name: section for name, section in config.resolved().items() if name in _PROCEDURE}
    return digest(settings | dict(code or {}))
