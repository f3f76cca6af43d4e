"""Hosts of a network of their own, on this machine: network namespaces (iproute2) on a bridge that leads nowhere else.

A process on a host sees neither the other hosts' folder of files nor any other network; it is ended with the network.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import skip_unless

__all__ = ["Hosts", "hosts"]

_SUBNET = "10.213.0"


class Hosts:
    """Named hosts with an address each.

    Args:
        names: Their names; the first has the address 10.213.0.2.
        empty: A folder that is empty for processes which are started with `is_bare`.
    """

    def __init__(self, names: Sequence[str], empty: Path) -> None:
        self._empty, self._started = empty, list[subprocess.Popen[bytes]]()
        self._prefix = f"nextday-{os.getpid()}-"
        self._made = list[str]()
        self.addresses = {name: f"{_SUBNET}.{number}" for number, name in enumerate(names, start=2)}

    def make(self) -> None:
        """Make the namespaces, and join each to the bridge."""
        hub = self._make_namespace("hub")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            host, port = self._make_namespace(name), f"to-{name}"
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "net", "netns", host)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "net")
            _ip("-n", host, "link", "set", "net", "up")

    def start(
        self, name: str, command: Sequence[str], log: Path, *, is_bare: bool, **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a process on a host.

        Args:
            name: The host's.
            command: Program and arguments.
            log: The file of its output.
            is_bare: Let it see, in the place of the empty folder, a new one of its own: its working folder, its home
                and its folder for temporary files.
            variables: Of its environment.
        """
        inside = [*command]
        if is_bare:
            script = 'mount -t tmpfs tmpfs "$0" && cd "$0" && exec env HOME="$0" TMPDIR="$0" "$@"'
            inside = ["sh", "-c", script, str(self._empty), *command]
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._prefix + name, *inside],
                env=_environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._started.append(process)
        return process

    def cut_off(self, name: str) -> None:
        """Take a host off the network."""
        _ip("-n", self._prefix + name, "link", "set", "net", "down")

    def join_again(self, name: str) -> None:
        """Put a host back on the network."""
        _ip("-n", self._prefix + name, "link", "set", "net", "up")

    def received(self, name: str) -> int:
        """Return the bytes that a host has received."""
        counter = "/sys/class/net/net/statistics/rx_bytes"
        command = ["ip", "netns", "exec", self._prefix + name, "cat", counter]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    def close(self) -> None:
        """End what was started, and remove the namespaces."""
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()
        for name in self._made:
            _ip("netns", "delete", name)

    def _make_namespace(self, name: str) -> str:
        namespace = self._prefix + name
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


@contextmanager
def hosts(names: Sequence[str], empty: Path) -> Iterator[Hosts]:
    """Yield hosts, or skip the test where this machine cannot make them; see Hosts."""
    can_make = bool(shutil.which("ip")) and os.geteuid() == 0
    skip_unless(can_make, "network namespaces: they need root and `ip` of iproute2")
    made = Hosts(names, empty)
    try:
        made.make()
        yield made
    finally:
        made.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the tests' environment without the folder in which they keep compiled networks."""
    return {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"} | dict(variables)
