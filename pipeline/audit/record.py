"""The record of an audit in the workspace: which code and which settings passed, and when."""

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
    """The record of one audit.

    Attributes:
        universe: The universe that was audited.
        when: The time of the run, UTC.
        as_of: The last session of the prices, as text.
        data_version: The price store's version.
        config_digest: Digest of all settings.
        procedure: Digest of the settings that decide the forecasts, the source included.
        code: The digest of each piece of custom code, by its name in the settings.
        extent: What was fitted on how much of history, in words.
        checks: The checks, in their order.
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
        """Return the number of checks with this status."""
        return sum(check.status == status for check in self.checks)


def save_audit(path: Path, audit: Audit) -> None:
    """Write an audit, replacing the previous one."""
    facts = asdict(audit) | {"when": audit.when.isoformat(), "passed": audit.is_passed}
    write_text(path, json.dumps(facts, indent=1, allow_nan=False) + "\n")


def load_audit(path: Path) -> Audit | None:
    """Return the audit that `save_audit` wrote; None if there is none.

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
            fix="run `nextday audit` again: it writes a new one",
        ) from None
