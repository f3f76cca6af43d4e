"""The workspace in one file, and back: what goes in, the archive, and the proof that it reads back.

May import `ledger`, `prices`, `tracking`, `storage` and below.
"""
