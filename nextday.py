"""`python -m nextday`: the same as the command `nextday`."""

from nextday_command import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
