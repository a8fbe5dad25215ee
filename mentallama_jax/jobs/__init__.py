"""What commands do, as functions."""
