"""The steps of a training: history, fit, scores, walk-forward, champion, and the processes that compute them.

May import `prices` and `runtime`.
"""
