"""What looks after an installation: deploy, doctor, Prefect's server, the audit command.

May import `evening` and below.
"""
