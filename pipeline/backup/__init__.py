"""Backup of the workspace in one file, and restore: its contents, the archive format, and the check that it reads back.

May import `ledger`, `prices`, `tracking`, `storage` and below.
"""
