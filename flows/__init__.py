"""When it happens: the Prefect flows and the command line."""
