"""The aliases in MLflow's registry: they mirror for people who serves and who challenges."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.errors import NextdayError

__all__ = ["CHAMPION", "find_number", "move_alias", "name_challengers", "read_aliases"]

CHAMPION: Final = "champion"
"""The alias of the serving model in MLflow's registry."""

_CHALLENGER: Final = "challenger-"
"""What the aliases of challengers begin with; their name follows."""


def find_number(client: Any, name: str, model_version: str) -> int | None:
    """Return a model's number in MLflow's registry, None where it is not registered there."""
    wanted = f"name = '{name}' and tags.model_version = '{model_version}'"
    found = client.search_model_versions(wanted)
    return int(found[0].version) if found else None


def read_aliases(client: Any, name: str) -> dict[str, str]:
    """Return the model_version that each alias of a registered model names."""
    return {
        alias: str(client.get_model_version(name, number).tags.get("model_version", f"version {number}"))
        for alias, number in _list_aliases(client, name).items()
    }


def move_alias(client: Any, name: str, model_version: str, former: str | None, promoted_at: datetime) -> None:
    """Let the champion's alias name this model, and note when it followed which one.

    Raises:
        NextdayError: MLflow does not know the model.
    """
    number = find_number(client, name, model_version)
    if number is None:
        raise NextdayError(
            f"MLflow's registry has lost the model {model_version} of {name}",
            where=str(client.tracking_uri),
            fix="it still serves; `nextday retrain` registers a new one",
        )
    client.set_registered_model_alias(name, CHAMPION, str(number))
    if former == model_version:
        return
    stamp = promoted_at.astimezone(UTC).isoformat()
    client.set_model_version_tag(name, str(number), "promoted_at", stamp)
    replaced = find_number(client, name, former) if former else None
    if replaced is not None:
        client.set_model_version_tag(name, str(replaced), "replaced_at", stamp)


def name_challengers(client: Any, name: str, challengers: Mapping[str, str]) -> None:
    """Let the alias challenger-<name> name each challenger, and remove those of others.

    Args:
        client: MLflow's client.
        name: The registered model.
        challengers: model_version by the challenger's name.
    """
    for alias in _list_aliases(client, name):
        if alias.startswith(_CHALLENGER) and alias.removeprefix(_CHALLENGER) not in challengers:
            client.delete_registered_model_alias(name, alias)
    for challenger, model_version in challengers.items():
        if (number := find_number(client, name, model_version)) is not None:
            client.set_registered_model_alias(name, f"{_CHALLENGER}{challenger}", str(number))


def _list_aliases(client: Any, name: str) -> dict[str, str]:
    found = client.search_registered_models(f"name = '{name}'")
    return dict(found[0].aliases) if found else {}
