"""The records that every other part speaks: frozen pydantic models, no torch, no Prefect."""
