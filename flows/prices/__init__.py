"""The steps of a price update: fetch, check and store prices, and report their status.

May import `runtime`.
"""
