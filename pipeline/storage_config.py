"""The settings of [storage]: where the state of a workspace lies."""

import re
from typing import Final

from pydantic import Field, field_validator

from pipeline.config_section import Section

__all__ = ["StorageConfig"]

_LEDGER: Final = re.compile(r"(postgresql://([^:@/\s]+@)?[^@/\s]+/[^@\s]+|env:[A-Za-z_][A-Za-z0-9_]{0,99})?")


class StorageConfig(Section):
    """Where the state of a workspace lies.

    Attributes:
        prices: "" for a folder of the workspace, else the URL of an object store, e.g. "s3://bucket/prefix"; keys and
            endpoint come from the environment alone.
        ledger: "" for ledger.sqlite in the workspace; or "postgresql://user@host/database?schema=nextday", without a
            password; or "env:NAME": the environment variable with that address.
    """

    prices: str = Field("", pattern=r"^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=-]+)*/?)?$")
    ledger: str = ""

    @field_validator("ledger")
    @classmethod
    def _check_ledger(cls, address: str) -> str:
        if not _LEDGER.fullmatch(address) or "password" in address:
            raise ValueError(
                'write "postgresql://user@host/database?schema=nextday" without a password (PGPASSWORD or ~/.pgpass '
                'holds it), or "env:NAME" for the environment variable with the address'
            )
        return address
