"""The Prefect flows that prefect.yaml deploys, and a server for them."""
