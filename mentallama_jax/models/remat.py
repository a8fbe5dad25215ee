"""Which tensors of a layer are kept for the backward pass, and which are computed again (rematerialised).

A layer names the tensors that are worth keeping with `kept_as`; a policy says which of them are. Sizes and savings
below are those of a layer of LLaMA-2-7B for one token in bfloat16, and of its products in the forward pass.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import jax
from jax.ad_checkpoint import checkpoint_name

from mentallama_jax.config import Remat, SavedTensor

ATTENTION: SavedTensor = "attention"
"""Output of the attention kernel with the log-sums of its softmax (8 kB a token): the kernel runs once, not twice."""
QUERY: SavedTensor = "query"
KEY: SavedTensor = "key"
VALUE: SavedTensor = "value"
"""Queries and keys after their rotation, and values, as attention takes them: 8 kB a token each, 8 % of the products
of the layer each."""
MIDDLE: SavedTensor = "middle"
"""The residual stream between attention and MLP: 8 kB a token, 8 % of the products."""
GATE: SavedTensor = "gate"
UP: SavedTensor = "up"
"""The two products in front of the SwiGLU: 22 kB a token each, 22 % of the products of the layer each."""

POLICIES: Mapping[str, tuple[SavedTensor, ...] | None] = {
    "none": None,
    "products": get_args(SavedTensor),
    "attention+gate+up": (ATTENTION, GATE, UP),
    "attention+qkv+middle": (ATTENTION, QUERY, KEY, VALUE, MIDDLE),
    "attention+gate+middle": (ATTENTION, GATE, MIDDLE),
    "attention+gate": (ATTENTION, GATE),
    "attention": (ATTENTION,),
    "full": (),
}
"""From keeping most to keeping least. `none` keeps everything that the backward pass reads; `products` keeps the
results of all products but the last, so that only norms, rotations and the SwiGLU are computed again; `full` keeps
the input of a layer alone."""
_CUDNN_FORWARD = "dot_product_attention_fwd_wrapper"
"""The primitive of jax whose outputs are what `ATTENTION` names, where attention is cuDNN's: `jax.nn` names nothing."""


def kept_as(name: SavedTensor, x: jax.Array) -> jax.Array:
    """`x`, which a policy can keep under this name."""
    return checkpoint_name(x, name)


def saved_tensors(remat: Remat | tuple[SavedTensor, ...]) -> tuple[SavedTensor, ...] | None:
    """The tensors that a policy or a list keeps besides a layer's input; None where nothing is computed again.

    Raises:
        ValueError: `auto`, which has to be resolved before anything is compiled.
    """
    if remat == "auto":
        raise ValueError("model.remat auto is a request to choose; resolve it before building the step")
    return POLICIES[remat] if isinstance(remat, str) else remat


def rematerialised(
    body: Callable[..., Any], remat: Remat | tuple[SavedTensor, ...], offload: bool
) -> Callable[..., Any]:
    """The body of a loop over layers whose backward pass computes again what the policy does not keep.

    Args:
        body: (carry, layer) -> (carry, None).
        remat: a name in `POLICIES`, or the names of the tensors to keep.
        offload: keep them in the memory of the host, from where the backward pass fetches them; what cuDNN computed
            is computed again.

    Raises:
        ValueError: `auto`, see `saved_tensors`.
    """
    saved = saved_tensors(remat)
    if saved is None:
        return body
    if offload and saved:
        policy = jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=list(saved),
            offload_src="device",
            offload_dst="pinned_host",
        )
    else:
        policy = jax.checkpoint_policies.save_only_these_names(*saved)
        if ATTENTION in saved:
            policy = jax.checkpoint_policies.save_from_both_policies(policy, _is_cudnn_forward)
    return jax.checkpoint(body, prevent_cse=False, policy=policy)


def _is_cudnn_forward(primitive: Any, *_: Any, **__: Any) -> bool:
    return bool(primitive.name == _CUDNN_FORWARD)
