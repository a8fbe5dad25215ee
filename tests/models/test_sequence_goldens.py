"""Our encoder-decoders against recorded results of transformers, on every Python (see make_sequence_goldens.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.formats.load import load_model
from mentallama_jax.generation.beam_search import BeamSearch, search_beams
from mentallama_jax.generation.target_rules import TargetRules
from mentallama_jax.models.attention import Places
from mentallama_jax.models.module import bind

FOLDERS = sorted(path.parent for path in Path(__file__).parents[1].glob("fixtures/sequence/*/golden.npz"))


def test_every_golden_is_here() -> None:
    assert [folder.name for folder in FOLDERS] == ["bart", "t5", "t5-gated"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_states_scores_gradients_and_beams(folder: Path) -> None:
    config, params = load_model(folder)
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    source_mask, target_mask = golden["source_mask"], golden["target_mask"]
    targets = golden["targets"]

    def places(mask):
        return Places(np.broadcast_to(np.arange(mask.shape[1]), mask.shape), mask.astype(np.int32))

    def loss(params):
        model = bind(config, params)
        memory = model.encode(golden["sources"], places(source_mask), dtype=jnp.float32)
        hidden = model.decode(targets, places(target_mask), memory, places(source_mask), dtype=jnp.float32)
        logits = model.logits(hidden)
        labels = np.roll(targets, -1, axis=1)[..., None]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels, -1)[..., 0]
        return -jnp.sum(chosen * target_mask) / target_mask.sum(), (memory, logits)

    (_, (memory, logits)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(memory[source_mask == 1], golden["memory"][source_mask == 1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits[target_mask == 1], golden["logits"][target_mask == 1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradients["embedding"], golden["gradient"], rtol=1e-3, atol=1e-4)

    rules = TargetRules(14, (config.end_id,), no_repeat_ngram=2)
    written = search_beams(
        params, golden["sources"], source_mask.sum(axis=1), config=config, search=BeamSearch(3, 1.5), rules=rules
    )
    np.testing.assert_allclose(written.scores_BJ.reshape(-1), golden["scores"], rtol=1e-4, atol=1e-4)
    lengths = np.asarray(written.lengths_BJ).reshape(-1)
    for row, length, wanted in zip(written.tokens_BJT.reshape(9, -1), lengths, golden["written"], strict=True):
        assert row[:length].tolist() == wanted[:length].tolist()
