"""The record as strangers can check it: the published folder, its verifiers, and commits of the chain to git.

`verify.py` here is copied into each folder and runs alone: it imports Python's standard library only. May import
`ledger`, `storage` and below.
"""
