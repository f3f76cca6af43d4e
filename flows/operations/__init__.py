"""Operate an installation: deploy, doctor, checks of the Prefect server, and the audit.

May import `evening` and below.
"""
