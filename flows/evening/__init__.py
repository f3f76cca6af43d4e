"""The steps of a nightly run: forecast, seal, settle, replay, explain, report, publish.

A new step of the nightly run belongs here. May import `training` and below.
"""
