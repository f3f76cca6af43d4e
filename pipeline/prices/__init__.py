"""The stored bars: an append-only, bitemporal Delta table, its dense blocks, revisions and exports.

`ingest` decides which of the newly fetched bars enter the store. May import `sources`, `market`, `storage`
and the ground floor.
"""
