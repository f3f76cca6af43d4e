"""Where the prices of a universe lie: in a folder of the workspace, or on an object store."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace
from pipeline.storage_config import StorageConfig

__all__ = ["open_store"]


def open_store(
    workspace: Workspace,
    storage: StorageConfig,
    universe: str,
    current: Mapping[str, str] = MappingProxyType({}),
) -> PriceStore:
    """Return the prices of a universe where [storage] says that they lie.

    Those of a simulation always lie in its own workspace: it must not write among the real ones.

    Args:
        workspace: The workspace; on an object store its cache holds copies of the files.
        storage: The settings.
        universe: The universe's name.
        current: See `PriceStore`.
    """
    if not storage.prices or workspace.simulation.exists():
        return PriceStore(workspace.prices(universe), current)
    url = f"{storage.prices.rstrip('/')}/{universe}"
    place = hashlib.sha256(url.encode()).hexdigest()[:12]  # another address has copies of its own
    return PriceStore(workspace.cache / "prices" / place / universe, current, url=url)
