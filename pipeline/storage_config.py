"""The settings of [storage]: where the state of a workspace lies."""

import re
from typing import Final

from pydantic import ValidationInfo, field_validator

from pipeline.config_section import Section

__all__ = ["StorageConfig"]

_BUCKET: Final = re.compile(r"((?P<kind>s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=-]+)*/?)?")
_MLFLOW: Final = re.compile(r"(https?://[^@/\s?#]+(/[^@\s?#]*)?|env:[A-Za-z_][A-Za-z0-9_]{0,99})?")
_LEDGER: Final = re.compile(r"(postgresql://([^:@/\s]+@)?[^@/\s]+/[^@\s]+|env:[A-Za-z_][A-Za-z0-9_]{0,99})?")


class StorageConfig(Section):
    """Where the state of a workspace lies.

    Attributes:
        prices: "" for a folder of the workspace, else the URL of an object store, e.g. "s3://bucket/prefix"; keys and
            endpoint come from the environment alone.
        reports: "" for the workspace alone; or "s3://bucket/prefix", to which the reports are copied; keys and endpoint
            as for the prices.
        mlflow: "" for mlflow.db in the workspace; or "https://host:port" of an MLflow server, without a password; or
            "env:NAME": the environment variable with that address.
        ledger: "" for files of the workspace; or "postgresql://user@host/database?schema=nextday", without a
            password; or "env:NAME": the environment variable with that address.
    """

    prices: str = ""
    reports: str = ""
    mlflow: str = ""
    ledger: str = ""

    @field_validator("prices", "reports")
    @classmethod
    def _check_bucket(cls, address: str, about: ValidationInfo) -> str:
        found = _BUCKET.fullmatch(address)
        if not found:
            raise ValueError(
                f'{_find_fault(address)}; write "s3://bucket/prefix", or leave it empty for a folder of the workspace'
            )
        if about.field_name == "reports" and found["kind"] not in (None, "s3"):
            raise ValueError(
                'reports are copied to s3:// alone; write "s3://bucket/prefix", or leave it empty'
            )
        return address

    @field_validator("mlflow")
    @classmethod
    def _check_mlflow(cls, address: str) -> str:
        if not _MLFLOW.fullmatch(address):
            raise ValueError(
                'write "https://host:port" of an MLflow server, without a password (MLFLOW_TRACKING_USERNAME and '
                'MLFLOW_TRACKING_PASSWORD hold it), or "env:NAME" for the environment variable with the address'
            )
        return address

    @field_validator("ledger")
    @classmethod
    def _check_ledger(cls, address: str) -> str:
        if not _LEDGER.fullmatch(address) or "password" in address:
            raise ValueError(
                'write "postgresql://user@host/database?schema=nextday" without a password (PGPASSWORD or ~/.pgpass '
                'holds it), or "env:NAME" for the environment variable with the address'
            )
        return address


def _find_fault(address: str) -> str:
    scheme, _, rest = address.partition("://")
    if scheme not in {"s3", "gs", "az"}:
        return "it is no address of an object store"
    if "@" in rest or "?" in rest:
        return "keys and options have no place here: they come from the AWS_* variables of the environment"
    if not rest.partition("/")[0]:
        return "it names no bucket"
    return "bucket and prefix are made of letters, digits and . _ - (a prefix also of = and single /)"
