"""The stored bars: an append-only, bitemporal Delta table, its dense blocks, revisions and exports.

What is believed of tonight's answers is decided in `ingest`. May import `sources`, `market`, `storage`
and the ground floor.
"""
