"""Tune, sample, evaluate and export LLaMA-2-family models for interpretable mental-health analysis.

For research only. Nothing in this package diagnoses anybody or replaces professional care.
"""

__version__ = "0.2.0"
