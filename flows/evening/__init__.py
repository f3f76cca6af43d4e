"""The steps of an evening: forecast, seal, settle, replay, explain, report, publish.

A new step of the evening belongs here. May import `training` and below.
"""
