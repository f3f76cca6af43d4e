"""One run: its settings, clock, lock, tasks, progress, tracking and custom code.

Contains no step of a flow. May import `pipeline` and `models` only.
"""
