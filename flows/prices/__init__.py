"""The steps of a price update: fetch, check, store; and how far the prices reach.

May import `runtime`.
"""
