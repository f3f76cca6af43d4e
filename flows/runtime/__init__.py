"""One run: its settings, clock, lock, tasks, progress, tracking and the user's own code.

It has no step of its own. May import `pipeline` and `models` only.
"""
