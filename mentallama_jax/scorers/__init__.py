"""Metrics that need a model: of explanations, and labels read by classifiers."""
