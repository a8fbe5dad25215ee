"""Reads an exported folder with transformers and prints what it found; run as a program of its own by `proof`.

torch is kept out: configs and tokenizers need none, and loading it takes longer than all else.
"""

import json
import os
import sys
from typing import Any


def examine(folder: str, texts: list[str], messages: list[dict[str, str]] | None) -> dict[str, Any]:
    """What transformers makes of the folder: its config, its token ids, the ids of texts and of a chat's prompt."""
    sys.modules["torch"] = None  # type: ignore[assignment]
    # What the folder says is what counts; nothing is asked of a network.
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generation = GenerationConfig.from_pretrained(folder)
    found = {
        "config": config.to_dict(),
        "generation": {f"{role}_token_id": getattr(generation, f"{role}_token_id") for role in ("bos", "eos", "pad")},
        "tokenizer": {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")},
        "size": len(tokenizer),
        "ids": [tokenizer(text, add_special_tokens=False).input_ids for text in texts],
        "with_specials": tokenizer(texts[0]).input_ids,
    }
    if messages is not None:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        found["chat"] = tokenizer(rendered, add_special_tokens=False).input_ids
    return found


if __name__ == "__main__":
    question = json.load(sys.stdin)
    answer = examine(sys.argv[1], question["texts"], question["messages"])
    sys.stdout.write("\n" + json.dumps(answer, default=str))
