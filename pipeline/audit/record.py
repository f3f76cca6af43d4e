"""What an audit found, kept in the workspace: which code and which settings passed, and when."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from pipeline.audit.leakage_check import Check
from pipeline.errors import StoreError
from pipeline.storage.files import write_text

__all__ = ["Audit", "load_audit", "save_audit"]


@dataclass(frozen=True)
class Audit:
    """One audit.

    Attributes:
        universe: Whose.
        when: The time of the run, UTC.
        as_of: The last session of the prices, as text.
        data_version: The price store's version.
        config_digest: Of all settings.
        procedure: Digest of those that decide what is forecast, and from which source.
        code: The digest of each piece of the user's own code, by its place.
        extent: What was fitted on how much of history, in words.
        checks: In their order.
    """

    universe: str
    when: datetime
    as_of: str
    data_version: int
    config_digest: str
    procedure: str
    code: Mapping[str, str]
    extent: str
    checks: tuple[Check, ...]

    @property
    def is_passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    def count(self, status: str) -> int:
        """Return how many checks ended so."""
        return sum(check.status == status for check in self.checks)


def save_audit(path: Path, audit: Audit) -> None:
    """Keep an audit in the place of the one before."""
    facts = asdict(audit) | {"when": audit.when.isoformat(), "passed": audit.is_passed}
    write_text(path, json.dumps(facts, indent=1, allow_nan=False) + "\n")


def load_audit(path: Path) -> Audit | None:
    """Read what `save_audit` kept, None where nothing is.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts.pop("passed")
        checks = tuple(Check(**check) for check in facts["checks"])
        return Audit(**facts | {"when": datetime.fromisoformat(facts["when"]), "checks": checks})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"The audit cannot be read: {error!r:.200}",
            where=str(path),
            fix="`nextday audit` makes it again",
        ) from None
