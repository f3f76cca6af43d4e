"""The Dockerfile and the compose file, read without an engine: what they name exists, and is as the pages say."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
from typer.main import get_command

from flows.cli.app import app
from tests.conftest import PROJECT

FOLDER = PROJECT / "docs" / "container"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = COMPOSE["x-nextday"]["image"]
COMMANDS = [service["command"] for service in SERVICES.values() if service["image"] == OWN]


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the Dockerfile, each with what follows on its lines."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        yield name, rest


def list_of(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def test_every_file_that_is_copied_exists_and_the_build_gets_no_other() -> None:
    copied = [word for rest in list_of("COPY") if "--from" not in rest for word in shlex.split(rest)[:-1]]
    assert [name for name in copied if not (PROJECT / name).exists()] == []
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {*copied}
    # All that the wheel is built from.
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert {*wheel["only-include"], *wheel["force-include"]} <= {*copied}


def test_packages_are_those_of_the_lock_and_extras_exist() -> None:
    (install,) = [rest for rest in list_of("RUN") if "pip" in rest]
    words = json.loads(install)
    assert words[words.index("--constraint") + 1] == "requirements.lock"
    (extras,) = re.findall(r"^\.\[(.*)\]$", words[-1])
    known = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)


def test_it_has_two_stages_and_its_user_is_not_root() -> None:
    assert [rest.split() for rest in list_of("FROM")] == [["${BASE}", "AS", "build"], ["${BASE}"]]
    names = [name for name, _ in instructions()]
    user, group = list_of("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in ("RUN", "COPY"))
    assert "ENTRYPOINT" not in names  # a worker gives its own command


def exists(command: list[str]) -> bool:
    """Return whether a command of the image exists, with its options."""
    program, *words = command
    if program == "nextday":
        found: Any = get_command(app)
        while words and not words[0].startswith("-"):
            found = found.commands[words.pop(0)]
        known = {option for parameter in found.params for option in parameter.opts} | {"--help"}
        return {word for word in words if word.startswith("--")} <= known
    names = [word for word in words if not word.startswith("--")]
    help_of = words[: next((at for at, word in enumerate(words) if word.startswith("--")), len(words))]
    said = subprocess.run(
        [sys.executable, "-m", program, *help_of, "--help"], capture_output=True, text=True, check=True
    ).stdout
    return bool(names) and all(word in said for word in words if word.startswith("--"))


def test_the_health_check_is_the_doctor() -> None:
    (check,) = list_of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command == ["nextday", "doctor", "--json"]
    assert exists(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_the_compose_file_exists(command: list[str]) -> None:
    assert exists(command)


def test_every_variable_is_one_that_somebody_reads() -> None:
    known = set(_get_settings_fields(Settings))
    set_by = [name for each in SERVICES.values() for name in each["environment"]]
    set_by += re.findall(r"(\w+)=", " ".join(list_of("ENV")))
    prefects = {name for name in set_by if name.startswith("PREFECT_")}
    assert prefects
    assert prefects <= known
    sources = "".join(path.read_text("utf-8") for path in (PROJECT / "flows").rglob("*.py"))
    assert [name for name in set_by if name.startswith("NEXTDAY_") and f'"{name}"' not in sources] == []


def test_passwords_come_from_the_file_beside_and_ports_stay_on_this_machine() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text))
    offered = set(re.findall(r"^(\w+)=CHANGE-ME$", (FOLDER / "example.env").read_text(), re.M))
    assert named == offered
    ports = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_compose_file_fits_together() -> None:
    for name, service in SERVICES.items():
        assert ":" in service["image"].rpartition("/")[2], f"{name}: an image without a version"
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            assert how["condition"] != "service_healthy" or "test" in SERVICES[other]["healthcheck"]


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_job_runs_the_image_with_the_paths_of_the_dockerfile(kind: str) -> None:
    template = json.loads((FOLDER / f"{kind}-pool.json").read_text())
    values = {name: each.get("default") for name, each in template["variables"]["properties"].items()}
    assert values["image"] == OWN
    environment = shlex.split(" ".join(list_of("ENV")))
    assert {f"{name}={value}" for name, value in values["env"].items()} <= {*environment}
    home = list_of("WORKDIR")[-1]
    if kind == "docker":
        assert values["volumes"] == [f"{COMPOSE['name']}_desk:{home}"]
        return
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == home
    assert str(pod["securityContext"]["runAsUser"]) == list_of("USER")[-1].split(":")[0]
