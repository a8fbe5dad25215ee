"""What people think of outputs: their marks, how far they agree, and which metrics agree with them."""
