"""Systems that models are compared with, without jax."""
