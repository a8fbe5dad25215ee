"""The loss, the optimizer and one update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.config import OptimizerSection, parse_config
from mentallama_jax.models.llama import LlamaConfig, forward
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training import loss as loss_module
from mentallama_jax.training.data.batch_spec import PACKED_TOKENS
from mentallama_jax.training.loss import cross_entropy_sum, next_token_targets
from mentallama_jax.training.mesh_placement import place_batch
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.optimizer import decays, learning_rate_schedule
from mentallama_jax.training.step import accumulated_gradients, init_state, make_eval_step, make_train_step

MODEL = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    tie_embeddings=True,
    max_positions=64,
)
ROWS, LENGTH = 8, 32


def run_config(micro_batch_rows=ROWS, **optimizer):
    return parse_config(
        {
            "model": {"source": "toy", "weights": "random", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"], "max_length": LENGTH},
            "optimizer": {"learning_rate": 1e-2, **optimizer},
            "training": {"run_dir": "unused", "steps": 10, "micro_batch_rows": micro_batch_rows},
        },
        "test",
    )


@pytest.fixture(scope="module")
def batch():
    """Eight rows with one to three examples each, unequal numbers of target tokens, and padding."""
    random = np.random.default_rng(0)
    arrays = PACKED_TOKENS.empty(ROWS, LENGTH)
    for row in range(ROWS):
        start = 0
        for segment in range(1, row % 3 + 2):
            size = int(random.integers(4, 10))
            place = slice(start, start + size)
            arrays["tokens"][row, place] = random.integers(1, MODEL.vocab_size, size)
            arrays["segment_ids"][row, place] = segment
            arrays["positions"][row, place] = np.arange(size)
            arrays["loss_mask"][row, start + int(random.integers(1, size)) : start + size] = 1
            start += size
    return {name: jnp.asarray(value) for name, value in arrays.items()}


def micro_batches(batch, micro_batch_rows):
    cut = {name: value.reshape(-1, micro_batch_rows, LENGTH) for name, value in batch.items()}
    return cut | {"micro_batches": jnp.int32(ROWS // micro_batch_rows)}


def plain_loss(params, batch):
    """Mean over target tokens by optax, from whole logits, with the targets found by loops."""
    logits = forward(params, MODEL, batch["tokens"], batch["positions"], batch["segment_ids"])
    mask, positions = np.asarray(batch["loss_mask"]), np.asarray(batch["positions"])
    where = [(r, t) for r, t in zip(*np.nonzero(mask), strict=True) if t and positions[r, t]]
    rows, columns = (np.array(x) for x in zip(*where, strict=True))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[rows, columns - 1], batch["tokens"][rows, columns])
    return losses.mean(), len(where)


def relative_difference(one, other):
    return max(
        float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@jax.jit
def accumulated(params, batches):
    return accumulated_gradients(Supervised(MODEL, run_config()), params, {}, batches)


@pytest.mark.long
def test_loss_and_gradient_are_those_of_whole_logits(batch):
    params = init_state(Supervised(MODEL, run_config()), run_config(), 10)["params"]
    gradient_of_plain = jax.jit(jax.value_and_grad(lambda given: plain_loss(given, batch), has_aux=True))
    (expected, tokens), gradient = gradient_of_plain(params)
    (total, _), sums, count = accumulated(params, micro_batches(batch, ROWS))
    assert count == tokens
    assert total / count == pytest.approx(float(expected), rel=1e-6)
    assert relative_difference(jax.tree.map(lambda g: g / count, sums), gradient) < 1e-5


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 4])
def test_accumulation_equals_one_batch(batch, micro_batch_rows):
    params = init_state(Supervised(MODEL, run_config()), run_config(), 10)["params"]
    whole = accumulated(params, micro_batches(batch, ROWS))
    cut = accumulated(params, micro_batches(batch, micro_batch_rows))
    assert cut[2] == whole[2]
    assert float(cut[0][0]) == pytest.approx(float(whole[0][0]), rel=1e-6)
    assert relative_difference(cut[1], whole[1]) <= 1e-6


@pytest.mark.long
def test_empty_micro_batches_change_nothing(batch):
    params = init_state(Supervised(MODEL, run_config()), run_config(), 10)["params"]
    padded = {name: jnp.concatenate([value, jnp.zeros_like(value[:4])]) for name, value in batch.items()}
    padded = micro_batches(padded, 4)  # which says that two of its three hold examples
    one = accumulated(params, padded)
    other = accumulated(params, micro_batches(batch, 4))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


def test_rows_that_do_not_divide_are_refused(batch):
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    mesh = make_mesh(run_config().mesh, jax.devices()[:1])
    with pytest.raises(ValueError, match="8 rows is not whole micro-batches of 3"):
        place_batch(arrays, 3, mesh)
    assert place_batch(arrays, 4, mesh)["tokens"].shape == (2, 4, LENGTH)


def test_targets_never_cross_segments():
    batch = {
        "tokens": jnp.array([[5, 6, 7, 8, 9, 0]]),
        "segment_ids": jnp.array([[1, 1, 2, 2, 2, 0]]),
        "loss_mask": jnp.array([[1, 1, 1, 0, 1, 1]]),
    }
    targets, mask = next_token_targets(batch)
    np.testing.assert_array_equal(mask, [[1, 0, 0, 1, 0, 0]])
    assert targets[0, 0] == 6
    assert targets[0, 3] == 9


@pytest.mark.long
@settings(max_examples=8)
@given(tokens=st.integers(1, 40), chunk=st.sampled_from([8, 16]), seed=st.integers(0, 9))
def test_chunks_equal_the_plain_loss(tokens, chunk, seed):
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(tokens, 6)).astype(np.float32)
    head = random.normal(size=(6, 11)).astype(np.float32)
    targets = random.integers(0, 11, tokens).astype(np.int32)
    mask = (random.random(tokens) < 0.6).astype(np.float32)

    def plain(hidden, head):
        return jnp.sum(mask * optax.softmax_cross_entropy_with_integer_labels(hidden @ head, targets))

    def chunked(hidden, head):
        return cross_entropy_sum(hidden, head, targets, mask)

    def scaled(loss):
        return jax.jit(jax.value_and_grad(lambda *given: 3 * loss(*given), (0, 1)))(hidden, head)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "CHUNK_TOKENS", chunk)
        ours = scaled(chunked)
        alone = jax.jit(chunked)(hidden, head)
    value, gradients = scaled(plain)
    assert 3 * float(alone) == pytest.approx(float(value), rel=1e-5, abs=1e-5)
    assert float(ours[0]) == pytest.approx(float(value), rel=1e-5, abs=1e-5)
    for one, other in zip(ours[1], gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_large_logits_stay_finite():
    hidden, head = jnp.full((2, 4), 100.0), jnp.eye(4) * jnp.array([100.0, 1, 1, 1])
    value, gradient = jax.value_and_grad(cross_entropy_sum)(hidden, head, jnp.array([0, 1]), jnp.ones(2))
    assert value == pytest.approx(10_000 - 100, rel=1e-5)
    assert np.all(np.isfinite(gradient))


def test_one_compile_whatever_the_number_of_micro_batches(batch):
    config = run_config(2)
    step = make_train_step(Supervised(MODEL, config), config, 10)
    state = init_state(Supervised(MODEL, config), config, 10)
    for used in (4, 3, 1):
        state, metrics = step(state, micro_batches(batch, 2) | {"micro_batches": jnp.int32(used)})
    assert step._cache_size() == 1
    assert int(state["step"]) == 3
    assert np.isfinite(metrics["loss"])


def test_training_learns_and_evaluation_agrees(batch):
    config = run_config()
    step, evaluate = make_train_step(Supervised(MODEL, config), config, 40), make_eval_step(Supervised(MODEL, config))
    state = init_state(Supervised(MODEL, config), config, 40)
    (loss, _), weight = evaluate(state["params"], {}, micro_batches(batch, ROWS))
    before = [float(loss), float(weight)]
    losses = []
    for _ in range(40):
        state, metrics = step(state, micro_batches(batch, ROWS))
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(before[0] / before[1], rel=1e-6)
    assert losses[-1] < 0.5 * losses[0]
    assert metrics["target_tokens"] == before[1]


def test_bfloat16_compute_keeps_fp32_master_weights(batch):
    config = parse_config(run_config().model_dump() | {"model": {"source": "toy", "weights": "random"}}, "test")
    assert config.model.compute_dtype == "bfloat16"
    state = init_state(Supervised(MODEL, config), config, 10)
    exact = accumulated(state["params"], micro_batches(batch, ROWS))
    objective = Supervised(MODEL, config)
    coarse = jax.jit(lambda given: accumulated_gradients(objective, given, {}, micro_batches(batch, ROWS)))(
        state["params"]
    )
    assert float(coarse[0][0]) == pytest.approx(float(exact[0][0]), rel=2e-2)
    new_state, _ = make_train_step(Supervised(MODEL, config), config, 10)(state, micro_batches(batch, ROWS))
    assert {leaf.dtype for leaf in jax.tree.leaves(new_state["params"])} == {jnp.dtype("float32")}


def test_update_is_that_of_adamw_written_out(batch):
    """First update of AdamW after clipping, by the formulas of Loshchilov and Hutter (2019), algorithm 2."""
    config = run_config(weight_decay=0.1, clip_norm=0.01, schedule="constant", warmup_fraction=0.0)
    state = init_state(Supervised(MODEL, config), config, 10)
    old = jax.tree.map(np.array, state["params"])
    _, sums, count = accumulated(state["params"], micro_batches(batch, ROWS))
    gradients = jax.tree.map(lambda g: np.asarray(g / count, np.float64), sums)
    norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradients)))
    new, metrics = make_train_step(Supervised(MODEL, config), config, 10)(state, micro_batches(batch, ROWS))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert norm > 0.01

    def expected(p, g, decay):
        g = g * 0.01 / norm
        return p - 1e-2 * (g / (np.abs(g) + 1e-8) + 0.1 * decay * p)

    wanted = jax.tree.map(expected, old, gradients, decays(old))
    for one, other in zip(jax.tree.leaves(new["params"]), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_norm_scales_do_not_decay():
    flags = decays(init_state(Supervised(MODEL, run_config()), run_config(), 10)["params"])
    assert flags["embedding"]
    assert flags["layers"]["mlp"]["gate"]
    assert not flags["layers"]["attention_norm"]["scale"]
    assert not flags["final_norm"]["scale"]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule(schedule):
    section = OptimizerSection(learning_rate=1e-3, schedule=schedule, warmup_fraction=0.04, final_fraction=0.1)
    rates = np.array([float(learning_rate_schedule(section, 100)(step)) for step in range(101)])
    assert 0 < rates[0] < rates[1] < rates[3] < rates[4]
    assert rates.argmax() == 4
    assert rates[4] == pytest.approx(1e-3)
    np.testing.assert_allclose(np.diff(rates[:5]), np.diff(rates[:5])[0], rtol=1e-4)
    if schedule == "constant":
        assert rates[100] == pytest.approx(1e-3)
    else:
        assert np.all(np.diff(rates[4:]) < 0)
        assert rates[100] == pytest.approx(1e-4, rel=1e-3)
        assert rates[99] > rates[100]


def test_the_papers_warm_up():
    """282 updates an epoch for ten epochs: 4 % are 113."""
    rates = learning_rate_schedule(OptimizerSection(), 2820)
    assert float(rates(112)) < 1e-5
    assert float(rates(113)) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("fraction", "total", "warmup"), [(0.07, 100, 7), (0.04, 282, 12), (0.29, 100, 29), (0.1, 30, 3), (0.035, 1000, 35)]
)
def test_the_warm_up_is_the_fraction_as_it_is_written(fraction, total, warmup):
    section = OptimizerSection(learning_rate=1.0, schedule="constant", warmup_fraction=fraction)
    rates = [float(learning_rate_schedule(section, total)(step)) for step in range(total)]
    assert sum(rate < 1.0 for rate in rates) == warmup
