"""The command line: Typer commands and what they print.

Heavy imports live inside the commands, so that help answers at once. May import every wing of `flows`.
"""

from flows.cli.app import main

__all__ = ["main"]
