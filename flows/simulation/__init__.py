"""Evenings of the past in one process, with the clock moved from start to start of the schedule.

Everything that is only about simulations belongs here. May import the flows and below.
"""
