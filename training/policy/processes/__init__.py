"""Several processes of one training: how they start, and what they exchange. No pickle, no listening store."""
