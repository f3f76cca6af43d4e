"""What enters the price store: what to fetch, quality checks, discrepancies, quarantine, listing status.

A new check of a vendor's answer belongs here. May import the rest of `prices` and what it may import.
"""
