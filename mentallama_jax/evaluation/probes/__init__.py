"""Probes of a model: posts are changed in a known way, and what that does to its labels is measured."""
