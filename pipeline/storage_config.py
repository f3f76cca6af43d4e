"""The settings of [storage]: where the state of a workspace lies."""

from pydantic import Field

from pipeline.config_section import Section

__all__ = ["StorageConfig"]


class StorageConfig(Section):
    """Where the state of a workspace lies.

    Attributes:
        prices: "" for a folder of the workspace, else the URL of an object store, e.g. "s3://bucket/prefix"; keys and
            endpoint come from the environment alone.
    """

    prices: str = Field("", pattern=r"^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=-]+)*/?)?$")
