"""Whole updates of encoder-decoders beside transformers on torch: loss, gradients, AdamW and Adafactor."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from mentallama_jax.config import parse_config
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.load import load_model
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mentallama_jax.training.step import accumulated_gradients

torch = pytest.importorskip("torch", reason="the extra parity is not installed")
transformers = pytest.importorskip("transformers")

BART = {"vocab_size": 60, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 32, "max_position_embeddings": 40}
T5 = {"vocab_size": 60, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
T5 |= {"decoder_start_token_id": 0}
CASES = {
    "bart": ("Bart", BART | {"dropout": 0.0}),
    "t5": ("T5", T5 | {"dropout_rate": 0.0}),
    "t5, gated, untied": ("T5", T5 | {"dropout_rate": 0.0, "feed_forward_proj": "gated-gelu"}),
}
LENGTHS = ((9, 5), (14, 8), (4, 11), (17, 3), (6, 6), (11, 2))
UPDATES, RATE = 4, 1e-2


def made(case: str, folder: Path):
    """A random model of transformers, saved, and ours read from it."""
    family, values = CASES[case]
    untied = {"tie_word_embeddings": False} if "untied" in case else {}
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForConditionalGeneration")(
        getattr(transformers, f"{family}Config")(**values, **untied)
    )
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(60, 24))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        if family == "Bart":
            model.final_logits_bias.normal_(0, 0.2)
    model.save_pretrained(folder)
    return model.train(), *load_model(folder)


def pairs() -> list[tuple[list[int], list[int]]]:
    source = np.random.default_rng(1)
    return [tuple(source.integers(5, 60, length).tolist() for length in lengths) for lengths in LENGTHS]


def store() -> TokenStore:
    """The pairs as examples of rows of 32 and 16 tokens."""
    found = pairs()
    tokens = np.array([token for pair in found for text in pair for token in text], np.int32)
    targets = np.array([bool(side) for pair in found for side in (0, 1) for _ in pair[side]])
    offsets = np.concatenate([[0], np.cumsum([sum(lengths) for lengths in LENGTHS])])
    ids = tuple(map(str, range(len(found))))
    return TokenStore("", ids, tokens, offsets, targets, np.zeros(len(found), np.int32), sides=(32, 16))


def config_of(**optimizer):
    return parse_config(
        {
            "model": {"source": "x", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"], "max_length": 32, "style": "completion"},
            "objective": {"kind": "sequence_to_sequence", "target_length": 16},
            "optimizer": {"schedule": "constant", "warmup_fraction": 0.0, "clip_norm": None} | optimizer,
            "training": {"run_dir": "-", "steps": 9, "batch_size": 6, "micro_batch_rows": 4},
        },
        "test",
    )


def batch_of(config) -> dict[str, jax.Array]:
    """All pairs as one update of packed rows."""
    arrays = TrainingData(store(), PlanSettings.of(config), epochs=1).batch(0).arrays
    cut = {name: jnp.asarray(value) for name, value in arrays.items() if name != MICRO_BATCHES}
    batch = {name: value.reshape(-1, 4, *value.shape[1:]) for name, value in cut.items()}
    assert jnp.max(batch["segment_ids"]) > 1
    return batch | {MICRO_BATCHES: jnp.asarray(arrays[MICRO_BATCHES])}


def torch_loss(model) -> torch.Tensor:
    """The mean over all target tokens, pairs padded in one batch and labels shifted by transformers."""

    def padded(side: int, pad: int) -> torch.Tensor:
        rows = [torch.tensor(pair[side]) for pair in pairs()]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)

    mask = (padded(0, -1) >= 0).long()
    return model(input_ids=padded(0, model.config.pad_token_id), attention_mask=mask, labels=padded(1, -100)).loss


def torch_leaves(model, config, what=lambda tensor: tensor) -> dict[tuple[str, ...], np.ndarray]:
    """A tensor of each parameter of transformers, laid out and stacked as ours; but for what has no gradient."""
    named, found = dict(model.named_parameters()), {}
    for parameter, shape, count in model_parameters(config):
        if parameter.path == ("logits_bias",):
            continue
        tensors = [what(named[parameter.name("hf", layer)]).detach().numpy() for layer in range(count)]
        ours = [parameter.to_ours(tensor, shape) for tensor in tensors]
        found[parameter.path] = np.stack(ours) if parameter.stacked else ours[0]
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if "gated" in case else case for case in CASES]
)
def test_updates_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    """Loss and gradients of packed pairs are those of a padded batch, and so are several updates of both optimizers.

    The biases of a BART's output count and are not trained. Layers that are stacked here are factored one by one.
    """
    theirs, model, params = made(case, tmp_path)
    config = config_of()
    objective = objective_of(model, config)
    gradient = jax.jit(lambda params, batch: accumulated_gradients(objective, params, {}, batch))
    batch = batch_of(config)
    (loss, _), gradients, weight = gradient(params, batch)
    wanted = torch_loss(theirs)
    wanted.backward()
    assert float(weight) == sum(length for _, length in LENGTHS)
    np.testing.assert_allclose(float(loss / weight), wanted.item(), rtol=1e-5)
    ours = traverse_util.flatten_dict(gradients)
    for path, of_theirs in torch_leaves(theirs, model, lambda tensor: tensor.grad).items():
        np.testing.assert_allclose(ours[path] / weight, of_theirs, rtol=1e-4, atol=1e-5, err_msg=str(path))
    if case == "bart":
        np.testing.assert_array_equal(gradients["logits_bias"], 0)
    start = {name: value.clone() for name, value in theirs.state_dict().items()}
    for name in ("adafactor", "adamw"):
        theirs.load_state_dict(start)
        _several_updates(name, theirs, model, params, lambda params: gradient(params, batch))


def _several_updates(name: str, theirs, model, params, gradient) -> None:
    section = config_of(name=name, learning_rate=RATE, weight_decay=0.1).optimizer
    optimizer = make_optimizer(section, learning_rate_schedule(section, 9), model)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    groups = [
        {"params": [value for key, value in theirs.named_parameters() if is_bare(key) == bare], "weight_decay": decay}
        for bare, decay in ((True, 0.0), (False, 0.1))
    ]
    if name == "adafactor":
        peer = transformers.Adafactor(groups, lr=RATE, scale_parameter=False, relative_step=False, warmup_init=False)
    else:
        peer = torch.optim.AdamW(groups, lr=RATE)
    for _ in range(UPDATES):
        peer.zero_grad()
        torch_loss(theirs).backward()
        # The same gradients for both: where they are noise, as of the biases of keys, optimizers make it large.
        found = torch_leaves(theirs, model, lambda tensor: tensor.grad)
        zeros = traverse_util.flatten_dict(jax.tree.map(np.zeros_like, params))
        updates, state = update(traverse_util.unflatten_dict(zeros | found), state, params)
        params = optax.apply_updates(params, updates)
        peer.step()
    ours = traverse_util.flatten_dict(params)
    for path, wanted in torch_leaves(theirs, model).items():
        np.testing.assert_allclose(ours[path], wanted, rtol=0, atol=1e-5, err_msg=f"{name} {path}")
    (loss, _), _, weight = gradient(params)
    np.testing.assert_allclose(float(loss / weight), torch_loss(theirs).item(), rtol=1e-4)


def is_bare(name: str) -> bool:
    """Whether a parameter of transformers has no weight decay: norms and biases."""
    return name.endswith("bias") or "norm" in name or "relative_attention_bias" in name
