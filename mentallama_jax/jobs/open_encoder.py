"""Opens an encoder to tune, and gives it a classifier of its own."""

from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.load import load_model_config, open_tensors
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.imhi.learnt_classes import classes_of
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, abstract_params, init_params
from mentallama_jax.models.presets import ENCODER_PRESETS
from mentallama_jax.models.registry import encoder
from mentallama_jax.training.setup import BaseModel

_HEAD = ("classifier", "classifier_bias")


def base_encoder(config: RunConfig) -> BaseModel:
    """The encoder and the tokenizer that a config names, with a classifier for the labels of its data sets.

    The classifier is new, even where the folder has one: its classes may mean something else.

    Raises:
        UserError: no such model or tokenizer, not an encoder, or pretrained weights of a preset, which has none.
    """
    model = config.model
    wanted = encoder_shape(config, model.source)
    if model.source in ENCODER_PRESETS:
        if model.weights == "pretrained":
            raise UserError(
                f"model.source: {model.source} is a shape without weights; name a folder or a hub id, or set "
                "model.weights=random"
            )
        if model.tokenizer is None:
            raise UserError(f"model.tokenizer: {model.source} brings none; name a folder, or `sample`")
        return BaseModel(wanted, _tokenizer(config), None)
    if model.weights == "random":
        return BaseModel(wanted, _tokenizer(config), None)

    def read(shardings: Any) -> Params:
        return _read_with_head(config, wanted, shardings)

    return BaseModel(wanted, _tokenizer(config), read, partial(source_fingerprint, model.source, model.revision))


def encoder_shape(config: RunConfig, source: str) -> BertConfig:
    """The shape of an encoder, with a pooler and a classifier for the labels of the data sets of a config.

    Args:
        config: the run.
        source: the encoder, the config's own or another name of it.

    Raises:
        UserError: no such model or data set, or not an encoder.
    """
    classes = classes_of(config.data)
    shape = ENCODER_PRESETS.get(source) or encoder(load_model_config(source, revision=config.model.revision), source)
    return replace(shape, pooler=True, num_labels=len(classes.names))


def _tokenizer(config: RunConfig) -> EncoderTokenizer:
    source = config.model.tokenizer or config.model.source
    if source == "sample":
        return EncoderTokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "encoder_tokenizer")
    revision = None if config.model.tokenizer else config.model.revision
    folder = locate(source, revision, weights=False)
    if folder.is_file():
        raise UserError(f"{folder}: not the folder of an encoder's tokenizer")
    return EncoderTokenizer(folder)


def _read_with_head(config: RunConfig, wanted: BertConfig, shardings: Params) -> Params:
    """The parameters of the folder, and new ones for what it lacks; a classifier that it has is passed over."""
    dtype = jnp.dtype(config.model.parameter_dtype)
    found, file = open_tensors(config.model.source, revision=config.model.revision)
    found = encoder(found, config.model.source)
    there = traverse_util.flatten_dict(abstract_params(found))
    places = traverse_util.flatten_dict(shardings)
    whole = jax.tree.leaves(shardings)[0]
    if any(path[0] in _HEAD for path in there):
        # Wherever it goes, it is not kept: a class may not divide along the mesh.
        whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    own = {path: whole if path[0] in _HEAD else places[path] for path in there}
    params = traverse_util.flatten_dict(assemble(file, found, dtype, traverse_util.unflatten_dict(own)))
    make = jax.jit(partial(init_params, wanted, dtype=dtype), out_shardings=shardings)
    new = traverse_util.flatten_dict(make(jax.random.key(config.training.seed)))
    kept = {path: value for path, value in params.items() if path[0] not in _HEAD}
    return traverse_util.unflatten_dict({**new, **kept})
