"""The steps of a training: history, fit, score, walk-forward, champion, and where the work is computed.

May import `prices` and `runtime`.
"""
