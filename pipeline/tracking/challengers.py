"""Who challenges the champion, and why champions changed: two JSON files beside the list of models.

challengers.json holds the models that forecast beside the champion, one per name; promotions.json every change of
champion, oldest first. Each entry has a digest of its own.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline.errors import InputError, StoreError
from pipeline.storage.files import hold_lock, write_text
from pipeline.tracking.registry import check_universe

__all__ = ["RETRAINED", "Challenger", "ChallengerBook", "Promotion", "check_name"]

RETRAINED: Final = "retrain"
"""The name of the challenger that `nextday retrain` trains with the settings in use."""

_PATIENCE: Final = 60.0  # seconds: the holder of the lock writes one small file
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")


@dataclass(frozen=True)
class Challenger:
    """A model that forecasts beside the champion.

    Attributes:
        name: What it is called: `retrain`, or the name of another procedure.
        model_version: The digest of its files.
        entered_at: The run's clock when it entered, in UTC.
        since: The newest session then: shadow sessions begin with it (YYYY-MM-DD).
    """

    name: str
    model_version: str
    entered_at: str
    since: str

    @property
    def first_session(self) -> pd.Timestamp:
        """The first session that it can have forecast from."""
        return pd.Timestamp(self.since)


@dataclass(frozen=True)
class Promotion:
    """A change of champion.

    Attributes:
        model_version: The new champion.
        former: The one before; empty for the first.
        promoted_at: The run's clock, in UTC.
        reason: first, always, better, age, replaced or by hand.
        sentence: The reason in words, with its figures.
        by: Who did it by hand; empty where the rule did.
    """

    model_version: str
    former: str
    promoted_at: str
    reason: str
    sentence: str
    by: str = ""

    @property
    def on(self) -> pd.Timestamp:
        """The day of the promotion in UTC (tz-naive midnight): it served the sessions from then on."""
        return pd.Timestamp(self.promoted_at).tz_convert("UTC").tz_localize(None).normalize()

    @property
    def in_words(self) -> str:
        """The reason, who gave it, and its figures."""
        return f"{self.reason}{f', {self.by}' if self.by else ''}: {self.sentence}"


@dataclass(frozen=True)
class ChallengerBook:
    """The challengers and the promotions of a workspace.

    Every method raises InputError if the universe's name is invalid, and StoreError if a file is damaged.

    Attributes:
        home: The workspace.
    """

    home: Path

    def challengers(self, universe: str) -> list[Challenger]:
        """Return the challengers in order of entry."""
        return [Challenger(**entry) for entry in self._read(universe, _CHALLENGERS)]

    def promotions(self, universe: str) -> list[Promotion]:
        """Return every change of champion, oldest first; those of versions without this list are not in it."""
        return [Promotion(**entry) for entry in self._read(universe, _PROMOTIONS)]

    def enter(
        self, universe: str, name: str, model_version: str, at: datetime, since: pd.Timestamp
    ) -> Challenger:
        """Let a registered model challenge the champion; it takes the place of one of the same name.

        Raises:
            InputError: the name is invalid.
        """
        check_name(name)
        made = Challenger(name, model_version, at.astimezone(UTC).isoformat(), f"{since:%Y-%m-%d}")
        with self._locked(universe):
            standing = self.challengers(universe)
            if any((each.name, each.model_version) == (name, model_version) for each in standing):
                return next(each for each in standing if each.name == name)
            kept = [each for each in standing if each.name != name and each.model_version != model_version]
            self._write(universe, _CHALLENGERS, [asdict(each) for each in [*kept, made]])
        return made

    def withdraw(self, universe: str, name: str) -> Challenger:
        """Let a challenger stand no longer; its sealed forecasts stay.

        Raises:
            InputError: there is none of this name.
        """
        with self._locked(universe):
            standing = self.challengers(universe)
            found = [each for each in standing if each.name == name]
            if not found:
                names = ", ".join(each.name for each in standing) or "there is none"
                raise InputError(
                    f"No challenger of {universe!r} is called {name!r}",
                    where=str(self._path(universe, _CHALLENGERS)),
                    fix=f"name one of these: {names}",
                )
            self._write(universe, _CHALLENGERS, [asdict(each) for each in standing if each.name != name])
        return found[0]

    def note(self, universe: str, promotion: Promotion) -> None:
        """Write a change of champion down, once."""
        with self._locked(universe):
            noted = self.promotions(universe)
            if not noted or noted[-1].model_version != promotion.model_version:
                self._write(universe, _PROMOTIONS, [asdict(each) for each in [*noted, promotion]])

    def forget(self, universe: str, model_version: str) -> None:
        """Take a model off the challengers, where it is one: it serves now."""
        with self._locked(universe):
            standing = self.challengers(universe)
            kept = [each for each in standing if each.model_version != model_version]
            if len(kept) < len(standing):
                self._write(universe, _CHALLENGERS, [asdict(each) for each in kept])

    def follow(
        self, universe: str, challengers: Sequence[Challenger], promotions: Sequence[Promotion]
    ) -> None:
        """Take over the lists that several machines share."""
        with self._locked(universe):
            if self.challengers(universe) != [*challengers]:
                self._write(universe, _CHALLENGERS, [asdict(each) for each in challengers])
            if self.promotions(universe) != [*promotions]:
                self._write(universe, _PROMOTIONS, [asdict(each) for each in promotions])

    def _path(self, universe: str, name: str) -> Path:
        check_universe(universe)
        return self.home.resolve() / "models" / universe / name

    def _locked(self, universe: str) -> AbstractContextManager[None]:
        return hold_lock(self._path(universe, ".challengers.lock"), _PATIENCE)

    def _read(self, universe: str, name: str) -> list[dict[str, Any]]:
        path = self._path(universe, name)
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            for entry in entries:
                if entry.pop("sha256") != _digest(entry):
                    raise ValueError(f"the entry of {entry['model_version']} was changed")
                (Challenger if name == _CHALLENGERS else Promotion)(**entry)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"The list of {_WORDS[name]} cannot be read: {str(error) or type(error).__name__:.200}",
                where=str(path),
                fix="restore it from a backup (nextday restore); without one, move it away: the champion still serves, "
                f"and a new list of {_WORDS[name]} begins",
            ) from None
        return entries

    def _write(self, universe: str, name: str, entries: list[dict[str, Any]]) -> None:
        sealed = [entry | {"sha256": _digest(entry)} for entry in entries]
        write_text(self._path(universe, name), json.dumps(sealed, indent=1) + "\n")


_CHALLENGERS: Final = "challengers.json"
_PROMOTIONS: Final = "promotions.json"
_WORDS: Final = {_CHALLENGERS: "challengers", _PROMOTIONS: "promotions"}


def check_name(name: str) -> None:
    """Raise unless `name` can name a challenger.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a challenger",
            where="--name",
            fix="use 1 to 31 of a-z, 0-9, - and _, beginning with a letter or digit",
        )


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
