"""Scores of generated answers: labels read from outputs, correctness, intervals over posts, reports."""
