"""The options of `adapter_config.json`: which are computed, which say nothing of the result, which are refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.folder import read_object
from mentallama_jax.models.adapters import Adapter, scale_of
from mentallama_jax.models.projections import Path as Place
from mentallama_jax.models.registry import AnyModelConfig, SequenceConfig

CONFIG = "adapter_config.json"
_LARGEST_RANK = 2**16
# What was adapted is told by the tensors, and how training began is of no account afterwards.
_HARMLESS = re.findall(
    r"\w+",
    "peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules "
    "exclude_modules modules_to_save layers_to_transform layers_pattern lora_dropout megatron_core qalora_group_size "
    "ensure_weight_tying eva_config runtime_config r lora_alpha rank_pattern alpha_pattern use_rslora use_dora",
)
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is."""


@dataclass(frozen=True, slots=True)
class PeftOptions:
    """The options that decide what an adapter adds."""

    r: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rslora: bool
    dora: bool

    def rank(self, module: str) -> int:
        """Rank of a module such as `model.layers.0.self_attn.q_proj`."""
        return int(_by_pattern(module, self.ranks, self.r))

    def scale(self, module: str) -> float:
        """What the product of the matrices of a module is multiplied by."""
        return scale_of(float(_by_pattern(module, self.alphas, self.alpha)), self.rank(module), self.rslora)


def read_options(folder: Path) -> PeftOptions:
    """Read and check the options of an adapter.

    Raises:
        UserError: no such file; another kind of adapter; an option that is not computed here, by its name.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: no adapter (it has no {CONFIG}); name a folder that PEFT or `export` wrote")
    values = read_object(path)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise UserError(f"{path}: peft_type {shown(kind)}: only LORA (with rsLoRA and DoRA) is computed here")
    start = values.get("init_lora_weights", True)
    if not any(start is plain or (isinstance(plain, str) and start == plain) for plain in _PLAIN_STARTS):
        raise UserError(
            f"{path}: init_lora_weights {shown(start)} changes the weights of the base; convert the adapter "
            "with PEFT's path_initial_model_for_weight_conversion first"
        )
    bias = values.get("bias", "none")
    refused = {} if bias == "none" else {"bias": bias}
    for name, value in values.items():
        if name not in (*_HARMLESS, "init_lora_weights", "bias") and value not in (None, False, {}, [], ""):
            refused[name] = value
    if refused:
        listed = ", ".join(f"{shown(name)[1:-1]} {shown(value)}" for name, value in list(refused.items())[:3])
        raise UserError(f"{path}: {listed}: not computed here; merge the adapter with PEFT first")
    return PeftOptions(
        _number(path, "r", values.get("r", 8), int),
        _number(path, "lora_alpha", values.get("lora_alpha", 8), float),
        _patterns(path, "rank_pattern", values.get("rank_pattern"), int),
        _patterns(path, "alpha_pattern", values.get("alpha_pattern"), float),
        _flag(path, "use_rslora", values.get("use_rslora", False)),
        _flag(path, "use_dora", values.get("use_dora", False)),
    )


def written_options(
    adapter: Adapter, config: AnyModelConfig, *, base: str | None, whole: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of `adapter_config.json` for an adapter of ours.

    Args:
        adapter: what is adapted.
        config: the base model.
        base: name of the base model; None where it has none that others could use.
        whole: modules that were trained whole.
        options: further values; they win.
    """
    ranks = [one.rank for one in adapter.projections]
    usual = max(sorted(set(ranks)), key=ranks.count)
    power = 0.5 if adapter.rslora else 1.0
    alphas = {one.path: round(one.scale * one.rank**power, 9) for one in adapter.projections}
    alpha = max(sorted(set(alphas.values())), key=list(alphas.values()).count)
    names = _module_names(config, {one.path: (one.rank, alphas[one.path]) for one in adapter.projections})
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    for one in adapter.projections:
        own, own_alpha = names[one.path], alphas[one.path]
        rank_pattern |= dict.fromkeys(own, one.rank) if one.rank != usual else {}
        alpha_pattern |= dict.fromkeys(own, _plain(own_alpha)) if own_alpha != alpha else {}
    writes = "SEQ_2_SEQ_LM" if isinstance(config, SequenceConfig) else "CAUSAL_LM"
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if whole else writes,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": _plain(alpha),
        "lora_dropout": adapter.dropout,
        "target_modules": list(dict.fromkeys(name for own in names.values() for name in own)),
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": list(whole) or None,
        "use_rslora": adapter.rslora,
        "use_dora": adapter.dora,
        **options,
    }


def _module_names(config: AnyModelConfig, adapted: Mapping[Place, tuple[int, float]]) -> dict[Place, list[str]]:
    """How PEFT is told of projections: by the last name where all that end so are alike, else by that of every layer.

    Args:
        config: the base model.
        adapted: path of a projection -> its rank and its alpha.
    """
    called = {
        parameter.path: (parameter.hf.removesuffix(".weight"), count)
        for parameter, _, count in model_parameters(config)
        if parameter.hf.endswith(".weight")
    }

    def names_of(path: Place) -> list[str]:
        name, count = called[path]
        last = name.rpartition(".")[2]
        alike = [other for other, (theirs, _) in called.items() if theirs.rpartition(".")[2] == last]
        if all(adapted.get(other) == adapted[path] for other in alike):
            return [last]
        return [name.format(layer=layer) for layer in range(count)]

    return {path: names_of(path) for path in adapted}


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def _by_pattern(module: str, patterns: Mapping[str, Any], default: Any) -> Any:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _patterns(path: Path, name: str, values: Any, kind: type) -> dict[str, Any]:
    """A table of patterns. Names with dots alone: what else a pattern may hold can take a matcher any time."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: {name} is {shown(values)}; expected an object")
    for key in values:
        if not re.fullmatch(r"\^?[\w.]{1,200}", key):
            raise UserError(f"{path}: {name}: {shown(key)} is more than names and dots; write the names out")
    return {key: _number(path, f"{name} {shown(key)}", value, kind) for key, value in values.items()}


def _number(path: Path, name: str, value: Any, kind: type) -> Any:
    number = type(value) is int or (kind is float and type(value) is float)
    if not number or not 0 < value <= _LARGEST_RANK:
        raise UserError(f"{path}: {name} is {shown(value)}; expected a number above 0, at most {_LARGEST_RANK}")
    return kind(value)


def _flag(path: Path, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{path}: {name} is {shown(value)}; expected true or false")
    return value
