"""Our encoders against recorded results of Hugging Face transformers, on every Python (see make_bert_goldens.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.formats.load import load_model
from mentallama_jax.models.module import bind

FOLDERS = sorted(path.parent for path in Path(__file__).parents[1].glob("fixtures/bert/*/golden.npz"))


def test_every_golden_is_here() -> None:
    assert len(FOLDERS) == 3


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_hidden_states_classes_and_gradients(folder: Path) -> None:
    config, params = load_model(folder)
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    tokens, mask = golden["tokens"], golden["mask"].astype(np.int32)
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)

    def loss(params):
        model = bind(config, params)
        hidden, _ = model.hidden(tokens, places, mask, dtype=jnp.float32, remat="full")
        logits = model.class_logits(hidden)[:, 0]
        chosen = jax.nn.log_softmax(logits)[np.arange(len(tokens)), golden["labels"]]
        return -jnp.mean(chosen), (hidden, logits)

    (_, (hidden, logits)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(hidden[mask == 1], golden["hidden"][mask == 1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradients["embedding"], golden["gradient"], rtol=1e-3, atol=1e-4)
