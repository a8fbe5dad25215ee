"""Attention: one function, and the implementations that it chooses from."""

from mentallama_jax.models.attention.dispatch import attention as attention
from mentallama_jax.models.attention.forms import Places as Places
