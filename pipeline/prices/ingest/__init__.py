"""From fetched bars to the price store: fetch plan, quality checks, discrepancies, quarantine, listing status.

A new check of a vendor's data belongs here. May import the rest of `prices` and what it may import.
"""
