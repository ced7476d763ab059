"""The dataset: its plan, rows, scores and shards, the formats of their samples, export, check and card."""
