"""The data stages, from request to dataset: generators over rows, run part by part. No Prefect, no torch at import."""
