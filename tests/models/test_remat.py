"""Whatever the backward pass keeps or computes again, the gradients are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from mentallama_jax.config import ModelSection
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import bind, init_params
from mentallama_jax.models.remat import POLICIES, saved_tensors

SHAPE = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=80,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_positions=64,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    tie_embeddings=False,
)
CHOICES = [*(name for name in POLICIES if name != "none"), ("query", "up"), ("attention",), ()]


@pytest.fixture(scope="module")
def params():
    return init_params(SHAPE, jax.random.key(1))


def loss(params, remat, offload=False):
    key = jax.random.key(2)
    tokens = jax.random.randint(key, (2, 24), 0, SHAPE.vocab_size)
    segments = jnp.asarray([[1] * 10 + [2] * 10 + [0] * 4, [1] * 24])
    places = jnp.asarray([[*range(10), *range(10), *[0] * 4], [*range(24)]])
    hidden = bind(SHAPE, params).hidden(tokens, places, segments, dtype=jnp.float32, remat=remat, offload=offload)
    return jnp.sum(jnp.sin(hidden) * (segments != 0)[..., None])


@pytest.fixture(scope="module")
def expected(params):
    return jax.jit(jax.value_and_grad(lambda given: loss(given, "none")))(params)


def check(found, expected):
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5), found, expected)


@pytest.mark.long
@pytest.mark.parametrize("remat", CHOICES, ids=str)
def test_gradients_do_not_depend_on_the_policy(params, expected, remat):
    check(jax.jit(jax.value_and_grad(lambda given: loss(given, remat)))(params), expected)


def test_gradients_do_not_depend_on_where_tensors_are_kept(params, expected):
    here, there = (
        jax.jit(jax.value_and_grad(lambda given, offload=offload: loss(given, "attention+gate", offload)))
        for offload in (False, True)
    )
    for step, on_the_host in ((here, False), (there, True)):
        lowered = step.trace(params).lower(lowering_platforms=("tpu",)).as_text()
        assert ("pinned_host" in lowered) is on_the_host
    check(there(params), expected)


def products(remat):
    """How many matrix products the gradient of the layers holds: a count of what is computed again."""
    jaxpr = jax.make_jaxpr(jax.grad(lambda given: loss(given, remat)))(
        jax.eval_shape(lambda: init_params(SHAPE, jax.random.key(0)))
    )
    return str(jaxpr).count("dot_general")


def test_what_is_kept_is_not_computed_again():
    counts = {name: products(name) for name in POLICIES}
    # Of a layer: `gate` and `up` one product each, `middle` that of the attention's output, queries and keys one and
    # a rotation each, values one; `products` leaves the two within plain attention.
    saved = {"attention+gate": 1, "attention+gate+middle": 2, "attention+gate+up": 2, "attention+qkv+middle": 6}
    assert {name: counts["full"] - counts[name] for name in saved} == saved
    assert counts["full"] - counts["products"] == 6 + 2
    assert counts["attention"] <= counts["full"]
    assert counts["none"] == min(counts.values())


def test_names_that_no_policy_has_are_refused():
    with pytest.raises(ValidationError, match="remat"):
        ModelSection(source="toy", remat="everything")
    with pytest.raises(ValidationError, match="remat"):
        ModelSection(source="toy", remat=["attention", "scores"])
    assert ModelSection(source="toy", remat=["attention", "gate"]).remat == ("attention", "gate")


def test_auto_is_not_a_policy_to_compile():
    with pytest.raises(ValueError, match="auto"):
        saved_tensors("auto")
