"""Tuning: records to packed batches, one pure update step, checkpoints, and the loop around them."""
