"""Entry points: the command line, and thin Prefect flows over the same stages."""
