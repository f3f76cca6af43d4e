"""The command `nextday`: the command line of `flows.cli`, unless another project hides a package of nextday.

It is a module of its own because `flows`, too, is a name that other projects use.
"""

import gc
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["find_hidden", "main"]


def find_hidden() -> dict[str, Path]:
    """Return the packages of nextday that Python would import from elsewhere, each with that place."""
    own = Path(__file__).resolve().parent
    specs = {name: find_spec(name) for name in ("flows", "pipeline", "models")}
    places = {name: Path(spec.origin).resolve() for name, spec in specs.items() if spec and spec.origin}
    return {name: place for name, place in places.items() if place.parent != own / name}


def main() -> None:
    """Run the command line; where a package is hidden, or on Windows, print why not and exit with code 2."""
    if sys.platform == "win32":
        print(
            "nextday: Windows is not supported: it has no locks and no inherited sockets as nextday needs them\n"
            "  where: this machine\n"
            "  fix:   use WSL 2, which is Linux: install nextday there",
            file=sys.stderr,
        )
        sys.exit(2)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # until `flows.cli` is imported, Ctrl+C just ends the process
    gc.disable()  # from the first import on: see `flows.cli.startup`, which turns it on again
    hidden = find_hidden()
    if hidden:
        packages = " and ".join(repr(name) for name in hidden)
        places = ", ".join(str(place) for place in hidden.values())
        print(
            f"nextday: Python finds {packages} of another project before nextday's own\n"
            f"  where: {places}\n"
            "  fix:   remove that folder from PYTHONPATH, for example: env -u PYTHONPATH nextday ...",
            file=sys.stderr,
        )
        sys.exit(2)
    from flows.cli import main as run

    run()


if __name__ == "__main__":
    main()
