"""A tripwire: one thing that no honest procedure does, looked for, and told with its evidence."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec

__all__ = ["Check", "CheckResult", "Status", "leakage_check"]

P = ParamSpec("P")
Status = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class CheckResult:
    """What a look came to, with numbers; a failure names the first offender."""

    status: Status
    evidence: str


@dataclass(frozen=True)
class Check:
    """One check of an audit.

    Attributes:
        name: In a few words.
        what: What was done, in one sentence.
        status: passed, failed, or not applicable.
        evidence: The numbers, or the first symbol, session and feature that offends.
    """

    name: str
    what: str
    status: Status
    evidence: str


def leakage_check(name: str, what: str) -> Callable[[Callable[P, CheckResult]], Callable[P, Check]]:
    """Return a decorator that makes a look a check; an error of ours in it is a failure, told in its words.

    Args:
        name: Of the check.
        what: What it does, in one sentence.
    """

    def tell(look: Callable[P, CheckResult]) -> Callable[P, Check]:
        @functools.wraps(look)
        def check(*args: P.args, **kwargs: P.kwargs) -> Check:
            try:
                found = look(*args, **kwargs)
            except Exception as error:
                if not hasattr(error, "fix"):  # neither a NextdayError nor one of the models'
                    raise
                found = CheckResult("failed", " ".join(str(error).split()))
            return Check(name, what, found.status, found.evidence)

        return check

    return tell
