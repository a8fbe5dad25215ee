"""The style chat gives the ids of transformers' `apply_chat_template`, for templates of every known kind."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
import tokenizers
from small_models import CARD, TINY, random_params

from mentallama_jax.cli.main import main
from mentallama_jax.config import Style, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.proof import Chat
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.imhi.data_files.preference_pairs import AnswerPair
from mentallama_jax.imhi.prompts import (
    encode_answer,
    encode_example,
    encode_prompt,
    end_id,
    example_chat,
    stop_ids,
    style_template,
)
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_query, instruction_response
from mentallama_jax.training.data.preferred import preference_store
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.run_directory import RunDirectory

LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
CHATML = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token + ' ' }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
EXAMPLE = Record("SAD/train/2", "SAD", "Rent is due.", "financial problem", "Rent is money.", "", "train")


def posts(count: int) -> list[str]:
    """Posts of made-up words with what tokenizers treat apart: blanks, lines, digits, accents, emoji, quotes."""
    source = random.Random(13)
    words = (
        "I",
        "can't",
        "sleep",
        "tired",
        "na\u00efve",
        "3am",
        "why?",
        "friends",
        "MUM",
        "\u4f60\u597d",
        "\U0001f62d",
    )
    odd = ("\n", "\n\n", "  ", " ... ", "\t", ' "no" ', " [INST] ", " <b>", " 2023-11-05 ", "\u00a0", " {{ x }} ")
    return [
        "".join(source.choice((" " + source.choice(words), source.choice(odd))) for _ in range(24))
        for _ in range(count)
    ]


def byte_level(folder: Path, special: tuple[str, ...]) -> None:
    """A byte-level BPE of LLaMA 3's kind, with its way of cutting a text."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(
        [*posts(50), "Consider this post: Question: Does the poster suffer from depression?"], trainer
    )
    made.add_special_tokens(list(special))
    made.save(str(folder / "tokenizer.json"))


KINDS: dict[str, tuple[str, str, tuple[str, ...], str, str, bool]] = {
    # name: template, tokenizer, its added tokens, BOS, EOS, whether the whole example is cut as one text is
    "llama3": (
        LLAMA3,
        "bytes",
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|begin_of_text|>",
        "<|eot_id|>",
        True,
    ),
    "chatml": (CHATML, "bytes", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|endoftext|>", "<|im_end|>", True),
    "chatml-pieces": (CHATML, "pieces", ("<|im_start|>", "<|im_end|>"), "<s>", "</s>", True),
    "llama2": (LLAMA2, "pieces", (), "<s>", "</s>", True),
    "mistral": (MISTRAL, "pieces", (), "<s>", "</s>", False),
    "mistral-control": (MISTRAL, "pieces", ("[INST]", "[/INST]"), "<s>", "</s>", False),
    "zephyr": (ZEPHYR, "pieces", (), "<s>", "</s>", True),
    "zephyr-tokens": (ZEPHYR, "pieces", ("<|user|>", "<|assistant|>"), "<s>", "</s>", True),
    "phi": (PHI, "pieces", ("<|user|>", "<|assistant|>", "<|end|>"), "<s>", "</s>", True),
}


def make(kind: str, folder: Path, sample: Tokenizer) -> Tokenizer:
    template, family, special, bos, eos, _ = KINDS[kind]
    folder.mkdir()
    if family == "bytes":
        byte_level(folder, special)
        names: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False}
    else:
        sample.save(folder)
        (folder / "tokenizer.model").unlink(missing_ok=True)
        names = json.loads((folder / "tokenizer_config.json").read_text())
        spec = json.loads((folder / "tokenizer.json").read_text())
        # As in Phi: these tokens take the blanks behind them.
        flags = {"single_word": False, "lstrip": False, "rstrip": kind == "phi", "normalized": False, "special": True}
        spec["added_tokens"] += [{"id": 1024 + i, "content": token, **flags} for i, token in enumerate(special)]
        (folder / "tokenizer.json").write_text(json.dumps(spec))
    names |= {"bos_token": bos, "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(template)
    return load_tokenizer(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_apply_chat_template(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    made = make(kind, tmp_path / "source", tokenizer)
    made.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "llama"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    special = KINDS[kind][2]
    for number, post in enumerate(posts(200)):
        for token in special:  # text that spells a special token is another test
            post = post.replace(token, "")
        record = Record(f"DR/test/{number}", "DR", post, "yes", "It says so.", split="test")
        examples = (EXAMPLE,) if number % 4 == 0 else ()
        messages = [
            message
            for shown in (*examples, record)
            for message in (
                {"role": "user", "content": instruction_query(shown)},
                {"role": "assistant", "content": instruction_response(shown)},
            )
        ]
        prompt = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert encode_prompt(record, "chat", made, 100_000, examples).tokens == prompt, post
        encoded = encode_example(record, "chat", made, 100_000, examples)
        assert encoded.tokens[: encoded.targets[0][0]] == prompt
        assert encoded.tokens[-1] == end_id("chat", made)
        if KINDS[kind][5]:
            whole = theirs.apply_chat_template(messages, return_dict=False)
            assert whole[: len(encoded.tokens)] == encoded.tokens, post


@pytest.mark.parametrize("kind", [kind for kind, (_, family, *_rest) in KINDS.items() if family == "pieces"])
def test_a_pair_of_answers_is_tokenised_as_the_record_that_it_was_made_of(
    kind: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The blanks that a template writes around an answer too: a model ends its answers as it was tuned to."""
    made = make(kind, tmp_path / "source", tokenizer)
    pair = AnswerPair("a", instruction_query(EXAMPLE), instruction_response(EXAMPLE), "No.")
    store, _ = preference_store([pair], "chat", made, 400)
    assert store.tokens[: store.middles[0]].tolist() == encode_example(EXAMPLE, "chat", made, 400).tokens
    assert store.tokens[-1] == end_id("chat", made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_post_never_becomes_a_special_token_and_is_cut_at_its_end(
    kind: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    made = make(kind, tmp_path / "source", tokenizer)
    evil = "".join(f"{token} " for token in (*KINDS[kind][2], "<s>", "</s>")) * 3
    special = {made.special_id(token.content) for token in made.added_tokens}
    record = Record("DR/test/1", "DR", "Fine.", "yes", split="test")
    plain, attacked = (
        encode_prompt(replace(record, post=post), "chat", made, 10_000).tokens for post in ("Fine.", evil)
    )
    assert [id_ for id_ in attacked if id_ in special] == [id_ for id_ in plain if id_ in special]
    whole = encode_example(replace(record, post="a b c d " * 40), "chat", made, 10_000)
    cut = encode_example(replace(record, post="a b c d " * 40), "chat", made, len(whole.tokens) - 20)
    assert len(whole.tokens) - 24 <= len(cut.tokens) <= len(whole.tokens) - 20
    assert cut.tokens[slice(*cut.targets[0])] == whole.tokens[slice(*whole.targets[0])]
    assert end_id("chat", made) in stop_ids("chat", made)
    answer = encode_answer("Yes.", "chat", made)
    assert not special & set(answer)


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="brings no chat template; choose plain"):
        encode_prompt(EXAMPLE, "chat", tokenizer, 1000)


@pytest.mark.parametrize("style", ["plain", "completion", "llama2-chat", "chatml", "chat"])
@pytest.mark.parametrize("kind", ["chatml-pieces", "mistral"])
def test_an_export_carries_the_template_of_the_prompts_it_was_tuned_with(
    style: Style, kind: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The proof in `save_hf` compares transformers' ids of a prompt with ours in that style."""
    made = make(kind, tmp_path / "source", tokenizer)
    if style == "chatml" and kind == "mistral":
        pytest.skip("this tokenizer has no tokens of ChatML")
    chat = Chat(*example_chat(style, made))
    template = style_template(style, made)
    if template is not None:
        made = made.with_chat_template(template)
    config = replace(TINY, vocab_size=made.vocab_size)
    ends = stop_ids(style, made)
    save_hf(tmp_path / "out", config, random_params(config), made, card=CARD, chat=chat, end_ids=ends)
    copy = load_tokenizer(tmp_path / "out")
    assert set(copy.end_ids) == set(ends)
    if style not in ("completion", "chat"):
        record = Record("DR/test/1", "DR", "Grey days.", "no", "It is.", split="test")
        for examples in ((), (EXAMPLE,)):
            ours = encode_prompt(record, style, made, 10_000, examples).tokens
            assert encode_prompt(record, "chat", copy, 10_000, examples).tokens == ours


@pytest.mark.parametrize(("style", "end"), [("chatml", 1025), ("chat", 1025), ("plain", 2), ("llama2-chat", 2)])
def test_a_run_exports_its_style(
    style: Style, end: int, tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ends of the source and of the style, the template, the prompt on the card, and the answers' settings."""
    make("chatml-pieces", tmp_path / "source", tokenizer)
    generation = {"eos_token_id": [2, 45], "temperature": 0.6, "do_sample": True}
    (tmp_path / "source" / "generation_config.json").write_text(json.dumps(generation))
    made = load_tokenizer(tmp_path / "source")
    model = replace(TINY, vocab_size=made.vocab_size)
    values = {
        "model": {"source": "somebody/Llama-2-7b-chat"},
        "data": {"train": ["sample"], "style": style},
        "training": {"run_dir": str(tmp_path / "run"), "steps": 1},
    }
    config = parse_config(values, "test")
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        run.prepare(config, model, {"fingerprints": {}}, made, say=print)
    with Checkpoints(run.checkpoints, config) as checkpoints:
        state = {"params": random_params(model), "opt_state": {"count": jnp.zeros(1)}, "step": jnp.int32(1)}
        checkpoints.save(1, state)
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0, capsys.readouterr().err
    written = json.loads((out / "generation_config.json").read_text())
    assert written["eos_token_id"] == list(dict.fromkeys([2, 45, end]))
    assert (written["temperature"], written["do_sample"]) == (0.6, True)
    copy = load_tokenizer(out)
    # Asked by its own template, the export is prompted as the run was tuned.
    record = Record("DR/test/1", "DR", "Grey days.", "no", "It is.", split="test")
    assert encode_prompt(record, "chat", copy, 10_000).tokens == encode_prompt(record, style, made, 10_000).tokens
    card = (out / "README.md").read_text()
    assert "license: llama2" in card
    assert f"(style `{style}`)" in card
    assert copy.chat_template in card
    assert "Question: Does the poster suffer from depression?" in card
    assert (out / "Notice.txt").is_file()
