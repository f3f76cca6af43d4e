"""An MLflow server that several machines share: its address, a client of it, and what its failures mean."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pipeline.errors import InputError, NextdayError, TrackingUnreachableError
from pipeline.storage.service_address import read_address
from pipeline.tracking.mlflow_database import set_environment

__all__ = ["MlflowServer", "explain_server", "find_experiment", "locate_server", "open_server"]

_CLIENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_CODE: Final = re.compile(r"error code (\d{3})|too many (\d{3}) error|\b([45]\d\d) (?:Client|Server) Error")
_CONNECTION: Final = re.compile(
    r"failed with exception|Max retries|[Tt]imed out|Connection ?(refused|reset|Error|aborted)"
)


@dataclass(frozen=True)
class MlflowServer:
    """An MLflow server; as text it is its address, without user and password.

    Attributes:
        url: Its address.
        user, password: What the address held of them; empty where MLflow's own variables hold them.
    """

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return the address."""
        return self.url


def locate_server(address: str) -> MlflowServer | None:
    """Return the server that [storage] mlflow names; None where it names none.

    Args:
        address: "https://host:port"; "env:NAME": the environment variable NAME holds it, and may then hold user and
            password; empty: none.

    Raises:
        InputError: the variable is not set, or its content is no such address.
    """
    if not address:
        return None
    parts = read_address(
        address,
        where="[storage] mlflow",
        service="an MLflow server",
        fix="write https://host:port, the address at which a browser shows its pages",
        is_usable=lambda parts: (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        ),
    )
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    return MlflowServer(url, unquote(parts.username or ""), unquote(parts.password or ""))


def open_server(server: MlflowServer) -> Any:
    """Import MLflow and return a client of the server; nothing is asked of it yet."""
    set_environment()
    os.environ |= _CLIENT
    if server.user:
        os.environ |= {
            "MLFLOW_TRACKING_USERNAME": server.user,
            "MLFLOW_TRACKING_PASSWORD": server.password,
        }
    import mlflow

    return mlflow.MlflowClient(server.url, registry_uri=server.url)


def find_experiment(client: Any, name: str) -> str:
    """Return the id of an experiment of a server, which keeps the runs' files itself; it is made where there is none.

    Raises:
        InputError: the server lets each machine keep the files, so that no other one would find them.
    """
    known = client.get_experiment_by_name(name)
    known = known or client.get_experiment(client.create_experiment(name))
    if urlsplit(known.artifact_location).scheme in ("", "file"):
        raise InputError(
            "The MLflow server leaves the files of runs to each machine's own disk, where no other one finds them",
            where=f"{client.tracking_uri}, experiment {name}: {known.artifact_location}",
            fix="start it with --artifacts-destination (a folder of the server, or s3://bucket/prefix) and without "
            "--no-serve-artifacts, and rename or delete that experiment for good",
        )
    return str(known.experiment_id)


@contextmanager
def explain_server(server: MlflowServer, what: str) -> Iterator[None]:
    """Turn an error of the server, or on the way to it, into one that says what to do.

    Raises:
        TrackingUnreachableError: it does not answer, or refuses; the server's own words are left out.
    """
    try:
        yield
    except NextdayError:
        raise
    except Exception as error:
        why, fix = _explain(error)
        raise TrackingUnreachableError(
            f"{what}: the MLflow server {why}",
            where=server.url,
            fix=f"{fix}, then run this again; what is sealed stays, and nothing is recorded twice",
        ) from None


def _explain(error: Exception) -> tuple[str, str]:
    text = str(error)
    found = _CODE.search(text)
    code = next((each for each in found.groups() if each), "") if found else ""
    if code in ("401", "403"):
        return f"refuses access ({code})", (
            "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and what they may "
            "do; a server that refuses this machine's name for it needs it in --allowed-hosts"
        )
    if code.startswith("5"):
        return f"answers with errors ({code})", "wait until it works again"
    if code:
        return (
            f"does not know what was asked ({code})",
            "check [storage] mlflow: its address, and MLflow 3 or newer",
        )
    if _CONNECTION.search(text):
        return "cannot be reached", "check the network and [storage] mlflow"
    kind = re.match(r"[A-Z_]{5,40}(?=:)", text)
    return f"refused it ({kind[0] if kind else type(error).__name__})", "look into the server's log"
