"""The workspace: one folder that holds everything made at run time."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import InputError, NextdayError, WorkspaceBusyError, quoted
from pipeline.storage.files import claimed_folder, hold_lock, remove_abandoned, write_text
from pipeline.storage.ledger_database import FetchLogDatabase, FetchLogPlace, LedgerPlace, locate_ledger

__all__ = ["Workspace"]


_SCRATCH = ".scratch."
_FETCHES = ".fetches.sqlite"
_UNUSABLE = re.compile(r"[\[\]\\^|?\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""Parts of a path that Delta Lake takes for another folder or fails on, and MLflow's ?, which begins options."""

_LAYOUT = 1
"""The version of the folder's layout; raised when an older nextday would misread a workspace."""


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace; `create` makes the folder.

    Attributes:
        home: The folder.
        ledger_address: [storage] ledger: empty where the ledger and the fetch logs are in the folder.
    """

    home: Path
    ledger_address: str = ""

    @property
    def ledger(self) -> LedgerPlace:
        """The sealed ledger of every universe: a file, or a schema of a PostgreSQL database.

        Raises:
            InputError: see `locate_ledger`.
        """
        return locate_ledger(self.ledger_address, self.ledger_file)

    def with_ledger(self, address: str) -> "Workspace":
        """Return the workspace with its ledger at `address`; a simulation never writes into the real record."""
        return self if self.simulation.exists() else Workspace(self.home, address)

    @property
    def ledger_file(self) -> Path:
        """The ledger where it is a file."""
        return self.home / "ledger.sqlite"

    @property
    def reports(self) -> Path:
        """Reports: one folder per universe, in it one per target session."""
        return self.home / "reports"

    @property
    def cache(self) -> Path:
        """Files that can be deleted without loss."""
        return self.home / "cache"

    @property
    def databases(self) -> list[Path]:
        """The existing SQLite databases, the ledger first, because it refers to what the others hold."""
        others = [*self.home.glob("*.db"), *self.home.glob("*.sqlite"), *self.home.glob("prices/*.sqlite")]
        found = dict.fromkeys([self.ledger_file, *sorted(others)])
        return [path for path in found if path.exists() and not path.name.startswith(".")]

    def prices(self, universe: str) -> Path:
        """The price store of a universe."""
        return self.home / "prices" / universe

    def fetch_log(self, universe: str) -> FetchLogPlace:
        """The log of what the source of a universe answered: a file, or in the database of the ledger.

        Raises:
            InputError: see `locate_ledger`.
        """
        file, ledger = self.home / "prices" / f"{universe}{_FETCHES}", self.ledger
        return file if isinstance(ledger, Path) else FetchLogDatabase(ledger, universe, file)

    def logged_universes(self) -> list[str]:
        """Return the universes whose fetch logs are files of the workspace."""
        return sorted(path.name.removesuffix(_FETCHES) for path in self.home.glob(f"prices/*{_FETCHES}"))

    def last_reading(self, universe: str) -> Path:
        """What the last run read from the user's files; it can be deleted without loss."""
        return self.cache / f"{universe}.reading.json"

    def model(self, universe: str, version: str) -> Path:
        """The files of one model."""
        return self.home / "models" / universe / version

    def evaluation(self, universe: str, version: str) -> Path:
        """The evaluation of the procedure that trained one model."""
        return self.home / "evaluations" / universe / version

    def audit(self, universe: str) -> Path:
        """The results of the last audit of a universe."""
        return self.home / "audits" / f"{universe}.json"

    def notifications(self, universe: str) -> Path:
        """What was sent to whom of a universe's events."""
        return self.home / "notifications" / f"{universe}.json"

    def alarms(self, universe: str) -> Path:
        """Who accepted which decay of a universe's live record, when and why."""
        return self.home / "alarms" / f"{universe}.json"

    def last_commit(self, universe: str) -> Path:
        """How the last attempt to commit a universe's sealed batches ended."""
        return self.home / "commits" / f"{universe}.json"

    def last_copy(self, universe: str) -> Path:
        """How the last attempt to copy a universe's reports ended, and what has been copied."""
        return self.home / "cache" / f"{universe}.copied.json"

    def floors(self, universe: str) -> Path:
        """What the backtests of a universe's champions promised; it can be deleted without loss."""
        return self.cache / f"{universe}.floors.json"

    def site(self, universe: str) -> Path:
        """What the pages of a universe's site were made of; it can be deleted without loss."""
        return self.cache / f"{universe}.site.json"

    def trials(self, universe: str) -> Path:
        """The log of every configuration that was tried on a universe."""
        return self.home / "trials" / f"{universe}.jsonl"

    @property
    def simulation(self) -> Path:
        """The note that makes the workspace that of a simulation: see `pipeline.storage.simulation_note`."""
        return self.home / "simulation.json"

    @property
    def marker(self) -> Path:
        """The file with the layout version and the nextday version that created the workspace."""
        return self.home / "workspace.json"

    def check(self) -> None:
        """Check that this version can use the workspace; one without a marker has the first layout.

        Raises:
            InputError: its path contains what Delta Lake or MLflow cannot use.
            NextdayError: a newer version created it, or its marker is damaged.
        """
        if unusable := _UNUSABLE.search(str(self.home)):
            raise InputError(
                f"The path of the workspace contains '{_printable(unusable[0])}': its price store (Delta Lake) or its "
                "tracking (MLflow) would fail there, or use another folder",
                where=_printable(str(self.home)),
                fix="name another folder with --home DIR; its path may contain anything but [ ] \\ ^ | ? and control "
                "characters, and % not before two hexadecimal digits",
            )
        if not self.marker.exists():
            return
        try:
            marker = json.loads(self.marker.read_text(encoding="utf-8"))
            layout, maker = int(marker["layout"]), str(marker["made_by"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NextdayError(
                f"The workspace's marker cannot be read: {error!r:.200}",
                where=str(self.marker),
                fix="restore it from a copy; if no newer nextday has used this workspace, delete it",
            ) from None
        if layout > _LAYOUT:
            raise NextdayError(
                f"{quoted(maker)} made this workspace in layout {layout}; this version reads layouts up to {_LAYOUT}",
                where=str(self.home),
                fix="install that version or a newer one, or name another workspace with --home DIR",
            )

    def create(self) -> None:
        """Create the folder, private to its owner, and its marker; existing ones stay unchanged.

        Raises:
            InputError: the folder cannot be created or written to, or see `check`.
            NextdayError: see `check`.
        """
        self.check()
        fix = "name another folder with --home DIR"
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError("The workspace is not a folder", where=str(self.home), fix=fix) from None
        except OSError as error:
            raise InputError(
                f"The workspace cannot be made: {error.strerror}", where=str(self.home), fix=fix
            ) from None
        if not os.access(self.home, os.W_OK):
            raise InputError("The workspace cannot be written to", where=str(self.home), fix=fix)
        if not self.marker.exists():
            marker = {"layout": _LAYOUT, "made_by": f"nextday {version('nextday')}"}
            write_text(self.marker, json.dumps(marker) + "\n")

    def remove_leftovers(self, universe: str) -> list[Path]:
        """Remove what killed writers have left: temporary files, and unfinished models of the universe.

        The caller must hold the universe's lock.
        """
        hidden = [*self.home.glob(".*.*"), *self.home.glob("[!.]*/**/.*.*")]
        left = [path for path in hidden if path.is_file() and remove_abandoned(path)]
        left += self._remove_scratch()
        for path in (self.home / "models" / universe).glob(".*"):
            if path.is_dir():
                shutil.rmtree(path)
                left.append(path)
        return sorted(left)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Provide a temporary folder for the block; those that killed runs have left are removed.

        Raises:
            NextdayError: the folder cannot be created.
        """
        with ExitStack() as held:
            try:
                self._remove_scratch()
                path = held.enter_context(claimed_folder(self.cache, _SCRATCH))
            except OSError as error:
                raise NextdayError(
                    f"A folder for temporary files cannot be made: {error.strerror}",
                    where=str(self.cache),
                    fix="check the permissions of the workspace and the free space, then run this again",
                ) from None
            yield path

    def _remove_scratch(self) -> list[Path]:
        return [path for path in self.cache.glob(f"{_SCRATCH}*") if remove_abandoned(path)]

    @contextmanager
    def locked(self, universe: str, *, timeout: float, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the universe's lock, so that one run writes at a time.

        Args:
            universe: The universe's name.
            timeout: Seconds to wait for another run.
            log: Called once with a line if there is another run to wait for.

        Raises:
            WorkspaceBusyError: another run held it for `timeout` seconds.
        """
        path = self.home / "locks" / f"{universe}.lock"
        with ExitStack() as held:
            try:
                held.enter_context(hold_lock(path, 0))
            except WorkspaceBusyError:
                minutes = f"{timeout / 60:.0f} minutes"
                log(f"another run is using the universe {universe!r}; waiting for up to {minutes}")
                held.enter_context(hold_lock(path, timeout, f"the universe {universe!r}"))
            yield


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
