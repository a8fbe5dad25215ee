"""Figures of outputs that take a model to compute."""
