"""Intervals and tests over posts, and the counts that figures are made of."""
