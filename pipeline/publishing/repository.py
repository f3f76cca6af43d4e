"""Commit the sealed batches to a git repository of the user's: its own files only, never a push."""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import NextdayError
from pipeline.ledger.sealed_batches import list_batches, open_sealed
from pipeline.publishing.evidence import EvidenceFile, list_evidence
from pipeline.publishing.publication import read_verifier
from pipeline.storage.files import hold_lock, write_bytes
from pipeline.storage.ledger_database import LedgerPlace

__all__ = ["Committed", "commit_batches"]

_PATIENCE: Final = 120.0
"""Seconds for all commands of one commit; they take well under one on a disk that answers."""

_LOCK_PATIENCE: Final = 30.0
_GRACE: Final = 5.0

_SETTINGS: Final = (
    *("-c", "core.hooksPath=/dev/null"),  # a hook may ask, push, or take for ever
    *("-c", "commit.gpgSign=false"),  # so may the passphrase of a key
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.autocrlf=false"),
    *("-c", "core.editor=true"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)
_AUTHOR: Final = ("-c", "user.name=nextday", "-c", "user.email=nextday@localhost")


@dataclass(frozen=True)
class Committed:
    """The result: the commit (empty if there was nothing new), how many batches it carries, and the ledger's head."""

    commit: str
    batches: int
    ledger_head: str


def commit_batches(ledger: LedgerPlace, folder: Path, universe: str) -> Committed:
    """Commit what was sealed since the last commit, in one commit: the batches, the heads, and verify.py.

    The files go to <folder>/<universe>/. Other files of the repository, staged or not, stay as they are. Hooks and
    signing are off. Where git knows no author, nextday is the author.

    Args:
        ledger: The ledger's file or database.
        folder: A folder in the working tree of the repository.
        universe: Whose rows are committed; batches of other universes keep their place by their hash.

    Raises:
        LedgerError: the ledger's seal is broken.
        NextdayError: the repository cannot be used, or holds other batches than the ledger.
    """
    git = _Git(folder)
    git.require_branch()
    lock = folder / git("rev-parse", "--git-path", "nextday.lock").strip()
    with hold_lock(lock, _LOCK_PATIENCE, "the repository"), open_sealed(ledger) as db:
        files = list_evidence(db, universe)
        new = [file for file in files if not file.is_written(folder / universe / file.path)]
        _refuse_others(folder / universe, new)
        # Those that a killed run has written and not committed; nobody may have changed them meanwhile.
        left = git("status", "--porcelain", "-z", "--untracked-files=all", "--", universe).split("\0")
        new += [file for file in files if file not in new and any(each.endswith(file.path) for each in left)]
        for file in new:
            write_bytes(folder / universe / file.path, file.make())
        write_bytes(folder / universe / "verify.py", read_verifier("verify.py"))
        sealed = list_batches(db)
        head = sealed[-1].ledger_head if sealed else ""
        paths = [f"{universe}/{path}" for path in (*(file.path for file in files), "verify.py")]
        added = [file for file in new if file.batch]
        commit = _commit(git, paths, _compose(universe, added, head)) if sealed else ""
    return Committed(commit, len(added), head)


def _commit(git: "_Git", paths: list[str], message: str) -> str:
    """Commit these paths alone; return the commit, empty where they hold nothing new."""
    listed = "\0".join(paths)
    from_list = ("--pathspec-from-file=-", "--pathspec-file-nul")
    git("add", "--force", *from_list, given=listed)
    if not git("diff", "--cached", "--name-only", "--", *{path.split("/")[0] for path in paths}).strip():
        return ""
    author = () if git.knows_author() else _AUTHOR
    git(
        *author,
        "commit",
        "--only",
        "--no-verify",
        "--quiet",
        f"--message={message}",
        *from_list,
        given=listed,
    )
    return git("rev-parse", "HEAD").strip()


def _compose(universe: str, added: list[EvidenceFile], head: str) -> str:
    what = added[-1].batch if added else "heads"
    more = f" and {len(added) - 1} more" if len(added) > 1 else ""
    return f"{universe}: {what}{more} sealed\n\nledger head {head}\n"


def _refuse_others(folder: Path, new: list[EvidenceFile]) -> None:
    others = [file.batch for file in new if file.batch and (folder / file.path).exists()]
    if others:
        raise NextdayError(
            f"The repository holds another {others[0]} than the ledger: it is not committed over",
            where=str(folder),
            fix="nextday ledger verify shows whether the ledger was changed; if the file was, restore it with git; "
            "after an accepted loss, name another folder in [publish] repository",
        )


class _Git:
    """Commands of git in one folder, in an environment of their own, with one time limit for all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._end = folder, time.monotonic() + _PATIENCE
        cleaned = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        fixed = {"GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C"}
        self._environment = cleaned | fixed

    def __call__(self, *arguments: str, given: str = "") -> str:
        """Return what a command printed.

        Raises:
            NextdayError: it failed, or took too long.
        """
        code, out, err = self._run(arguments, given)
        if code:
            raise NextdayError(
                f"git {_name(arguments)} failed: {(err or out).strip()[:300] or f'exit code {code}'}",
                where=str(self._folder),
                fix="run it there yourself; the next evening commits what is missing",
            )
        return out

    def require_branch(self) -> None:
        """Refuse a folder that is in no working tree, and one whose commits would belong to no branch."""
        if not self._folder.is_dir():
            raise NextdayError(
                "There is no such folder",
                where=str(self._folder),
                fix="git init it, or correct [publish] repository",
            )
        if self("rev-parse", "--is-inside-work-tree").strip() != "true":
            raise NextdayError(
                "This repository has no working tree",
                where=str(self._folder),
                fix="name a working copy in [publish] repository, not a bare repository",
            )
        if self._run(("symbolic-ref", "--quiet", "HEAD"), "")[0]:
            raise NextdayError(
                "No branch is checked out there: a commit would be lost",
                where=str(self._folder),
                fix="git switch to a branch, or end the rebase; the next evening commits what is missing",
            )

    def knows_author(self) -> bool:
        """Whether the user's name and address are set."""
        return not any(self._run(("config", f"user.{name}"), "")[0] for name in ("name", "email"))

    def _run(self, arguments: tuple[str, ...], given: str) -> tuple[int, str, str]:
        """Return the exit code and the outputs; through files, since a child of git could hold a pipe open."""
        with (
            tempfile.TemporaryFile() as stdin,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            stdin.write(given.encode())
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    ["git", *_SETTINGS, *arguments],
                    cwd=self._folder,
                    env=self._environment,
                    stdin=stdin,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise NextdayError(
                    "git is not installed", where="[publish] commit", fix="install git, or set commit = false"
                ) from None
            self._wait(process, _name(arguments))
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            return process.returncode, texts[0], texts[1]

    def _wait(self, process: "subprocess.Popen[bytes]", name: str) -> None:
        try:
            process.wait(max(self._end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            for number in (signal.SIGTERM, signal.SIGKILL):  # the first lets git remove its lock
                try:
                    os.killpg(process.pid, number)
                    process.wait(_GRACE)
                    break
                except subprocess.TimeoutExpired:
                    continue
                except ProcessLookupError:
                    break
            raise NextdayError(
                f"git {name} took more than {_PATIENCE:.0f} seconds and was ended",
                where=str(self._folder),
                fix="run it there yourself: a filter or a slow disk may be the reason; the next evening tries again",
            ) from None


def _name(arguments: tuple[str, ...]) -> str:
    return next((each for each in arguments if each[:1] != "-" and "=" not in each), "")
