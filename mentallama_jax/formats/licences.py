"""What the licence of a base model asks of those who pass on a model that was made from it."""

import re
from dataclasses import replace
from typing import NamedTuple

from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.presets import PRESETS

_LLAMA_2_NOTICE = (
    "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights Reserved."
)
_LLAMA_2_DUTIES = """\
Who passes these weights on gives a copy of the LLAMA 2 Community License with them, keeps the file `Notice.txt`, and
follows Meta's Acceptable Use Policy. Say that the model is derived from Llama 2, and do not name it as if Meta had made
or approved it. The licence forbids to use the model or its answers to improve another large language model, and asks
services of more than 700 million monthly users for a licence of their own.
"""
_LLAMA_3_DUTIES = """\
Who passes these weights on gives a copy of the licence with them, keeps the file `Notice.txt`, follows Meta's
Acceptable Use Policy, shows "Built with Llama" where the model is used, and begins the model's name with "Llama".
Services of more than 700 million monthly users need a licence of their own from Meta.
"""


class Licence(NamedTuple):
    """A licence as the hub names it, the line that must go with copies, and the duties in words; "" where unknown."""

    licence: str
    notice: str = ""
    duties: str = ""


UNKNOWN = Licence("unknown")
_LLAMA_2 = Licence("llama2", _LLAMA_2_NOTICE, _LLAMA_2_DUTIES)


def licence_of(base: str, config: LlamaConfig) -> Licence:
    """The licence of pretrained weights, by the name of the model that they come from and by its shape.

    Args:
        base: hub id, folder or file of the base model.
        config: its shape. Models of LLaMA 2's very shape are taken for its children, whatever they are called.
    """
    found = re.search(r"llama[-_ ]?([23])(?:[.](\d))?(?![0-9])", base, re.IGNORECASE)
    if found and found[1] == "3":
        version = f"3.{found[2]}" if found[2] else "3"
        name = f"Llama {version}" if found[2] else "Meta Llama 3"
        notice = (
            f"{name} is licensed under the {name} Community License, Copyright (c) Meta Platforms, Inc. "
            "All Rights Reserved."
        )
        return Licence(f"llama{version}", notice, _LLAMA_3_DUTIES)
    if found or any(_same_shape(config, preset) for name, preset in PRESETS.items() if name.startswith("llama2")):
        return _LLAMA_2
    return UNKNOWN


def _same_shape(config: LlamaConfig, preset: LlamaConfig) -> bool:
    # Children may have a few more tokens or another number of positions.
    same = replace(
        config,
        vocab_size=preset.vocab_size,
        max_positions=preset.max_positions,
        rope_scaling=preset.rope_scaling,
    )
    return 0 <= config.vocab_size - preset.vocab_size < 1000 and same == preset
