"""Editors: each makes candidate images for a request."""
