"""Manifests: records of an initialization, to verify that another is the same."""
