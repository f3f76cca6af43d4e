"""Evaluation of forecasts: scores with intervals and baselines, the verdict, subgroups, selective prediction.

What takes frames of forecasts with their outcomes belongs here; figures and pages do not. May import `features`,
`statistics`, `formatting`, `storage` and the modules below them.
"""
