"""Adapters of PEFT: read, computed beside the base and merged into it as PEFT does, written back, and refused by name.

The adapters and what PEFT computes with them are recorded, see tests/fixtures/make_peft_goldens.py.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from mentallama_jax.config import AdapterSection
from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.hf_folder import tensors_of_file
from mentallama_jax.formats.load import load_model, open_tensors
from mentallama_jax.formats.peft import PREFIX, AdapterTensors, TensorsAsFile, read_adapter, write_adapter
from mentallama_jax.models.adapters import adapted_config, adapted_params, is_adapter, merged_params
from mentallama_jax.models.attention import Places
from mentallama_jax.models.low_rank import ADAPTER
from mentallama_jax.models.module import bind, split_params
from mentallama_jax.models.projections import projections_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "peft"
LLAMA, BERT = FIXTURES / "llama", FIXTURES / "bert"
SECTIONS = {
    "lora": {
        "rank": 3,
        "alpha": 6.0,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"down_proj": 5.0},
    },
    "rslora": {"targets": ("q_proj", "v_proj"), "rank": 4, "alpha": 3.0, "rslora": True},
    "dora": {"rank": 2, "alpha": 4.0, "dora": True},
    "classifier": {"targets": ("query", "key", "value", "dense"), "rank": 2, "alpha": 4.0},
    "roberta": {"targets": ("query", "key", "value", "dense"), "rank": 2, "alpha": 4.0},
    "bart": {"rank": 3, "alpha": 6.0, "rank_pattern": {"fc1": 2}},
    "t5-gated": {"rank": 2, "alpha": 4.0, "dora": True},
}
SEQUENCES = ("bart", "t5-gated")
CLASSIFIERS = ("classifier", "roberta")


def base_of(name: str) -> Path:
    if name in SEQUENCES:
        return FIXTURES.parent / "sequence" / name
    if name == "roberta":
        return FIXTURES.parent / "bert" / "roberta"
    return BERT if name == "classifier" else LLAMA


def golden_of(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / name / "golden.npz") as arrays:
        return dict(arrays)


def logits_of(config, params, tokens, labels=None):
    """Logits as the base computes them, of one segment a row; of a classifier, those of the first tokens."""
    model = bind(config, params)
    places = (jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape), jnp.ones(tokens.shape, jnp.int32))
    if config.model_type in ("bert", "roberta"):
        hidden, _ = model.hidden(tokens, *places, dtype=jnp.float32)
        return model.class_logits(hidden)[:, 0]
    if config.model_type in ("bart", "t5"):
        read, at = jnp.roll(jnp.asarray(tokens), 1, 1), Places(*places)
        memory = model.encode(tokens, at, dtype=jnp.float32)
        return model.logits(model.decode(read, at, memory, at, dtype=jnp.float32))
    hidden = model.hidden(tokens, *places, dtype=jnp.float32, remat="none", offload=False)
    return hidden @ model.head_DV()


def loss_of(logits, labels, name):
    if logits.ndim == 3 and name not in SEQUENCES:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))


def in_training(config, base, tensors: AdapterTensors, section: AdapterSection):
    """The adapted model, and its parameters with the values of files."""
    model = adapted_config(config, section)
    flat = traverse_util.flatten_dict(adapted_params(model, base, jax.random.key(0), jnp.float32))
    for one in model.adapter.projections:
        found = [each for (path, _), each in sorted(tensors.matrices.items()) if path == one.path]
        place = (*one.path[:-1], one.path[-1] + ADAPTER)
        assert [each.scale for each in found] == [pytest.approx(one.scale)] * len(found)
        for name, values in (
            ("a", [each.a.T for each in found]),
            ("b", [each.b.T for each in found]),
            ("magnitude", [each.magnitude for each in found]),
        ):
            if (*place, name) in flat:
                flat[(*place, name)] = jnp.asarray(np.stack(values)).reshape(flat[(*place, name)].shape)
    for parameter, _, _ in model_parameters(config):
        if (parameter.path, 0) in tensors.whole:
            value = parameter.to_ours(tensors.whole[parameter.path, 0], flat[parameter.path].shape)
            flat[parameter.path] = jnp.asarray(value)
    return model, traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize("name", ["lora", "dora", *CLASSIFIERS, *SEQUENCES])
def test_logits_and_gradients_are_those_of_peft(name: str) -> None:
    golden = golden_of(name)
    config, base = load_model(base_of(name))
    tensors = read_adapter(FIXTURES / name, config)
    model, params = in_training(config, base, tensors, AdapterSection(**SECTIONS[name], base_dtype="float32"))
    trained, frozen = split_params(params, is_adapter)

    def loss(trained):
        whole = traverse_util.unflatten_dict(traverse_util.flatten_dict(frozen) | traverse_util.flatten_dict(trained))
        logits = logits_of(model, whole, golden["tokens"])
        return loss_of(logits, golden["labels"], name), logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(trained)
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-4)
    assert float(value) == pytest.approx(float(golden["loss"]), rel=1e-5)
    flat = traverse_util.flatten_dict(gradients)
    compared = 0
    for one in model.adapter.projections:
        for layer in range(2):
            module = PREFIX + projections_of(config)[one.path].name.format(layer=layer)
            place = (*one.path[:-1], one.path[-1] + ADAPTER)
            for ours, theirs in (("a", "lora_A"), ("b", "lora_B"), ("magnitude", "lora_magnitude_vector")):
                if (*place, ours) in flat:
                    wanted = golden[f"{module}.{theirs}.weight"]
                    found = np.asarray(flat[(*place, ours)][layer]).reshape(wanted.T.shape).T
                    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
                    compared += 1
    assert compared == len([key for key in golden if "lora_" in key])


@pytest.mark.parametrize("name", SECTIONS)
def test_merging_gives_the_logits_of_peft_and_the_same_bits_again(name: str) -> None:
    golden = golden_of(name)
    config, file = open_tensors(base_of(name))
    tensors = read_adapter(FIXTURES / name, config)

    def merged():
        read = tensors.merged(tensors_of_file(file, config))
        return assemble(TensorsAsFile(config, read, "merged"), config, jnp.float32)

    params = merged()
    np.testing.assert_allclose(logits_of(config, params, golden["tokens"]), golden["logits"], rtol=1e-4, atol=1e-4)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, merged()))
    base = load_model(base_of(name))[1]
    section = AdapterSection(**SECTIONS[name], base_dtype="float32")
    model, whole = in_training(config, base, tensors, section)
    on_devices = merged_params(model, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), on_devices, params)


@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_written_is_what_was_read(name: str, tmp_path: Path) -> None:
    config = load_model(base_of(name))[0]
    adapter = adapted_config(config, AdapterSection(**SECTIONS[name])).adapter
    tensors = read_adapter(FIXTURES / name, config)
    write_adapter(tmp_path / "out", adapter, tensors, config, base="someone/model", options={}, card="# Adapter\n")
    theirs = load_file(FIXTURES / name / "adapter_model.safetensors")
    ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {key: value.tobytes() for key, value in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}
    again = read_adapter(tmp_path / "out", config)
    assert {place: one.scale for place, one in again.matrices.items()} == pytest.approx(
        {place: one.scale for place, one in tensors.matrices.items()}
    )
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "someone/model"
    known = json.loads((FIXTURES / name / "adapter_config.json").read_text())
    assert written.keys() <= known.keys()
    saved = written["modules_to_save"] or []
    assert bool(saved) == (name in CLASSIFIERS)
    # PEFT adds `classifier` itself, and takes no module for whole that is a part of another one.
    assert not [part for part in saved for whole in ("classifier", *saved) if part.startswith(f"{whole}.")]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by old names
@pytest.mark.parametrize("name", SECTIONS)
def test_peft_reads_what_is_written(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    transformers = pytest.importorskip("transformers")
    golden = golden_of(name)
    config = load_model(base_of(name))[0]
    adapter = adapted_config(config, AdapterSection(**SECTIONS[name])).adapter
    write_adapter(
        tmp_path / "out", adapter, read_adapter(FIXTURES / name, config), config, base=None, options={}, card=""
    )
    kinds = dict.fromkeys(CLASSIFIERS, "AutoModelForSequenceClassification")
    kinds |= dict.fromkeys(SEQUENCES, "AutoModelForSeq2SeqLM")
    kind = kinds.get(name, "AutoModelForCausalLM")
    model = peft.PeftModel.from_pretrained(getattr(transformers, kind).from_pretrained(base_of(name)), tmp_path / "out")
    tokens = torch.from_numpy(golden["tokens"]).long()
    read = {"decoder_input_ids": torch.roll(tokens, 1, 1)} if name in SEQUENCES else {}
    with torch.no_grad():
        logits = model.eval()(input_ids=tokens, **read).logits.numpy()
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-4)


def test_projections_are_called_as_in_the_tables_of_names() -> None:
    for folder in (
        LLAMA,
        BERT,
        *(base_of(name) for name in ("roberta", *SEQUENCES)),
        FIXTURES.parent / "sequence" / "t5",
    ):
        config = load_model(folder)[0]
        table = {parameter.path: parameter for parameter, _, _ in model_parameters(config)}
        for path, one in projections_of(config).items():
            assert (table[path].hf, table[path].inputs) == (f"{one.name}.weight", one.inputs)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "rslora", tmp_path / "adapter"))


def change(folder: Path, **options) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "ADALORA"}, r"peft_type 'ADALORA': only LORA"),
        ({"peft_type": None}, r"peft_type 'None': only LORA"),
        ({"bias": "all"}, r"bias 'all': not computed here"),
        ({"lora_bias": True}, r"lora_bias 'True': not computed here"),
        ({"use_qalora": True}, r"use_qalora 'True': not computed here"),
        ({"alora_invocation_tokens": [1]}, r"alora_invocation_tokens '\[1\]': not computed here"),
        ({"layer_replication": [[0, 2]]}, r"layer_replication .*: not computed here"),
        ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices .*: not computed here"),
        ({"kasa_config": {"x": 1}}, r"kasa_config .*: not computed here"),
        ({"something_new": 3}, r"something_new '3': not computed here"),
        ({"fan_in_fan_out": True}, r"fan_in_fan_out 'True': not computed here"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights 'pissa' changes the weights of the base"),
        ({"init_lora_weights": {"a": 1}}, r"init_lora_weights .* changes the weights of the base"),
        ({"r": 0}, r"r is '0'; expected a number above 0"),
        ({"r": True}, r"r is 'True'; expected a number"),
        ({"r": 5}, r"has rank 4, and adapter_config\.json says 5"),
        ({"lora_alpha": "8"}, r"lora_alpha is '8'; expected a number"),
        ({"rank_pattern": {"(a+)+$": 3}}, r"rank_pattern: '\(a\+\)\+\$' is more than names and dots"),
        ({"rank_pattern": [1]}, r"rank_pattern is '?\[1\]'?; expected an object"),
        ({"use_dora": True}, r"lora_magnitude_vector.* is missing, and use_dora"),
        ({"use_rslora": "yes"}, r"use_rslora is 'yes'; expected true or false"),
    ],
)
def test_other_kinds_and_options_are_refused_by_name(copy: Path, options, message: str) -> None:
    change(copy, **options)
    with pytest.raises(UserError, match=message):
        read_adapter(copy, load_model(LLAMA)[0])


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal", "eva"])
def test_how_training_began_is_of_no_account_where_the_base_stays(copy: Path, start) -> None:
    config = load_model(LLAMA)[0]
    before = read_adapter(copy, config)
    change(copy, init_lora_weights=start, eva_config={"rho": 2.0} if start == "eva" else None)
    assert {place: one.scale for place, one in read_adapter(copy, config).matrices.items()} == {
        place: one.scale for place, one in before.matrices.items()
    }


def rewritten(folder: Path, change) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    path.unlink()
    save_file(dict(change(tensors)), path)


FIRST = f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda t: t | {FIRST.replace("layers.0", "layers.7"): t[FIRST]},
            r"another model than this llama: .*layers\.7",
        ),
        (lambda t: {k: v for k, v in t.items() if k != FIRST.replace("_A", "_B")}, r"without its lora_B"),
        (lambda t: t | {FIRST: t[FIRST][:, :5].copy()}, r"is \[4, 5\], the model asks for \['rank', 16\]"),
        (lambda t: t | {FIRST: t[FIRST] * np.nan}, r"holds NaN or infinity"),
        (lambda t: t | {FIRST: t[FIRST].astype(np.int8)}, r"is stored as I8"),
        (lambda t: t | {f"{PREFIX}lm_head.weight": t[FIRST]}, r"lm_head\.weight.*adapters of embeddings and heads"),
        (
            lambda t: t | {f"{PREFIX}model.embed_tokens.lora_embedding_A": t[FIRST]},
            r"lora_embedding_A.*adapters of embeddings and heads",
        ),
        (lambda t: {}, r"holds no adapter for any projection of this llama model"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(copy: Path, spoil, message: str) -> None:
    rewritten(copy, spoil)
    with pytest.raises(UserError, match=message):
        read_adapter(copy, load_model(LLAMA)[0])


def test_folders_without_an_adapter_are_refused(copy: Path, tmp_path: Path) -> None:
    config = load_model(LLAMA)[0]
    with pytest.raises(UserError, match=r"no adapter .it has no adapter_config\.json"):
        read_adapter(tmp_path, config)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.bin is not read; save it as safetensors"):
        read_adapter(copy, config)
    (copy / "adapter_model.bin").unlink()
    with pytest.raises(UserError, match=r"holds no adapter_model\.safetensors; download it too"):
        read_adapter(copy, config)
    with pytest.raises(UserError, match="made for another model than this bert"):
        read_adapter(FIXTURES / "rslora", load_model(BERT)[0])
