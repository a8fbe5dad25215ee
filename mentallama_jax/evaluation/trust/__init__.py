"""What makes outputs worth trusting, or not: calibration, high risk, faults, quotes that occur in the post, care."""
