"""Messages to people and the heartbeat: what is worth telling, to whom, what was told already.

Nothing here changes a forecast or fails a run, and no address is stored, logged or shown.
"""
