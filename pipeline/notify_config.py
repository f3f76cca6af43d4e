"""The settings of the messages that a run sends, of the heartbeat that tells when runs stop, and of the decay alarm."""

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from pipeline.config_section import Section

__all__ = ["KINDS", "AlarmConfig", "NotifyConfig"]

KINDS: Final = ("evening", "trouble", "decay", "promotion", "quarantine")
"""What a message may be about, in the order of the settings."""

_BY_NAME: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,99}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,19}(?=://)", re.IGNORECASE)

Kind = Literal["evening", "trouble", "decay", "promotion", "quarantine"]


class AlarmConfig(Section):
    """What happens when the live record has decayed."""

    on_decay: Literal["tell", "stop"] = "tell"


class NotifyConfig(Section):
    """Whom a run tells what, and where it reports that it is alive.

    An address is a secret: the settings name the environment variable that holds it, which is read when a message is
    sent. An address in the file itself is refused, and the error repeats nothing of it but its scheme.
    """

    to: tuple[str, ...] = Field((), max_length=20)
    what: tuple[Kind, ...] = KINDS
    length: Literal["line", "table"] = "line"
    surest: int = Field(5, ge=1, le=50)
    attach: tuple[Literal["csv", "html", "link"], ...] = ()
    reports_url: str = Field("", pattern=r"^(https?://[^@\s]+)?$")
    heartbeat: str = ""

    @field_validator("to")
    @classmethod
    def _check_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        faults = [
            f"address {place + 1} {fault}"
            for place, address in enumerate(addresses)
            if (fault := _find_fault(address))
        ]
        if faults:
            raise ValueError("; ".join(faults))
        if len({*addresses}) < len(addresses):
            raise ValueError("an address is named twice: keep one of them")
        return addresses

    @field_validator("heartbeat")
    @classmethod
    def _check_heartbeat(cls, address: str) -> str:
        if address and (fault := _find_fault(address)):
            raise ValueError(f"the address {fault}")
        return address

    @field_validator("what", "attach")
    @classmethod
    def _check_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len({*names}) < len(names):
            raise ValueError("write each once")
        return names


def _find_fault(address: str) -> str:
    """Return what is wrong with an address without repeating it; empty if nothing is."""
    if _BY_NAME.fullmatch(address):
        return ""
    scheme = _SCHEME.match(address)
    kind = f"({scheme[0].lower()}://...) " if scheme else ""
    return (
        f'{kind}is not the name of an environment variable: write "env:NEXTDAY_TELEGRAM", and put the address in that '
        "variable; addresses contain passwords, and this file does not keep any"
    )
