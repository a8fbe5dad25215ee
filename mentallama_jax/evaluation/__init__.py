"""Predictions scored: labels read from whole answers, figures with intervals, reports. Never imports torch."""
