"""Outputs that other programs wrote: one file for each form, and what is common to their rows."""
