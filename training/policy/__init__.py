"""Policies that edit images, and what improves them: Flow-GRPO and SpatialFlow-GRPO."""
