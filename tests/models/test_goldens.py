"""Our model against recorded results of Hugging Face transformers, on every Python (see make_llama_goldens.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.formats.load import load_model
from mentallama_jax.models.llama import forward
from mentallama_jax.models.module import bind, count_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.training.loss import cross_entropy_sum

FOLDERS = sorted(path.parent for path in Path(__file__).parents[1].glob("fixtures/llama/*/golden.npz"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def golden(request):
    config, params = load_model(str(request.param))
    with np.load(request.param / "golden.npz") as arrays:
        return config, params, dict(arrays)


def packed(tokens):
    places = jnp.tile(jnp.arange(tokens.shape[1], dtype=jnp.int32), (tokens.shape[0], 1))
    return jnp.asarray(tokens), places, jnp.ones_like(places)


def test_every_golden_is_here():
    assert len(FOLDERS) == 5


def test_logits(golden):
    config, params, arrays = golden
    np.testing.assert_allclose(
        forward(params, config, *packed(arrays["tokens"])), arrays["logits"], rtol=1e-4, atol=1e-4
    )


def test_greedy_continuation(golden):
    config, params, arrays = golden
    tokens = arrays["generated"]
    chosen = np.argmax(forward(params, config, *packed(tokens)), axis=-1)
    np.testing.assert_array_equal(chosen[:, 7:-1], tokens[:, 8:])


@pytest.mark.parametrize("remat", ["none", "full"])
def test_embedding_gradient(golden, remat):
    config, params, arrays = golden
    tokens, places, segments = packed(arrays["tokens"])

    def mean_loss(params):
        model = bind(config, params)
        hidden = model.hidden(tokens, places, segments, dtype=jnp.float32, remat=remat, offload=False)[:, :-1]
        targets = tokens[:, 1:].reshape(-1)
        total = cross_entropy_sum(
            hidden.reshape(-1, config.hidden_size), model.head_DV(), targets, jnp.ones(targets.shape)
        )
        return total / targets.size

    gradient = jax.grad(mean_loss)(params)["embedding"]
    scale = np.abs(arrays["embedding_gradient"]).max()
    np.testing.assert_allclose(gradient / scale, arrays["embedding_gradient"] / scale, atol=1e-4)


def test_llama2_7b_has_its_published_size():
    assert count_params(PRESETS["llama2-7b"]) == 6_738_415_616


@pytest.mark.parametrize(
    ("name", "size"), [("llama2-13b", 13_015_864_320), ("llama2-70b", 68_976_648_192), ("smollm2-135m", 134_515_008)]
)
def test_other_presets_have_their_published_sizes(name, size):
    assert count_params(PRESETS[name]) == size
