"""Detectors and segmenters: Protocols, the registry of specs, and a file for each adapter of a published model."""
