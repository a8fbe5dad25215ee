"""BERTScore (Zhang et al. 2020): each token meets its nearest token of the other text, in the states of an encoder.

P is the mean over the tokens of the candidate of the largest cosine to a token of the reference, weighed by idf or not;
R the same the other way; F their harmonic mean. The special tokens can be met, and weigh nothing.

Shape suffixes: R rows, T candidate places, S reference places, D hidden.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.models.attention import Places
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, bind
from mentallama_jax.scorers.packed_texts import packed_batches

LAYERS: Mapping[str, int] = {
    "roberta-large": 17,
    "roberta-base": 10,
    "roberta-large-mnli": 19,
    "distilroberta-base": 5,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "bert-base-multilingual-cased": 9,
    "bert-base-cased-finetuned-mrpc": 9,
}
"""Name of a model -> the layer whose states agree best with people, as bert-score 0.3.13 has it."""
REFERENCE_VERSION = "0.3.12"
"""What bert-score 0.3.13 calls itself in its hashes."""
_LONGEST = 512
_MASKED = -2.0  # below every cosine


class TokenScores(NamedTuple):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class BertScoreSettings:
    """How texts are compared.

    Attributes:
        layer: whose states are compared; the layers above are not computed.
        baseline: P, R and F of random pairs at this layer, which become 0; None for no rescaling.
    """

    layer: int
    baseline: tuple[float, float, float] | None = None


def layer_of(name: str, config: BertConfig, asked: int | None) -> int:
    """The layer to compare: the one asked for, or that of the table for a known model.

    Args:
        name: of the model, such as `roberta-large` or `FacebookAI/roberta-large`.
        config: of the model.
        asked: 1 is the first layer; None for the table's.

    Raises:
        UserError: no such layer, or an unknown model and none asked for.
    """
    layer = LAYERS.get(_last_part(name)) if asked is None else asked
    if layer is None:
        raise UserError(
            f"BERTScore: no layer is known for {name}; say which of its {config.num_layers} to compare, "
            f"such as bertscore:layer={config.num_layers}"
        )
    if not 1 <= layer <= config.num_layers:
        raise UserError(f"BERTScore: {name} has layers 1 to {config.num_layers}, not {layer}")
    return layer


def baseline_of(name: str, layer: int) -> tuple[float, float, float]:
    """P, R and F of random English pairs, from the tables of bert-score (MIT licence).

    Raises:
        UserError: there is none for this model and layer.
    """
    table = files("mentallama_jax.scorers") / "bert_score_baselines" / f"{_last_part(name)}.tsv"
    rows = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
    for row in rows:
        if int(row["LAYER"]) == layer:
            return float(row["P"]), float(row["R"]), float(row["F"])
    raise UserError(f"BERTScore: no English baseline is known for layer {layer} of {name}; score without rescaling")


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


class BertScorer:
    """BERTScore of pairs of texts under an encoder."""

    def __init__(
        self,
        config: BertConfig,
        params: Params,
        tokenizer: EncoderTokenizer,
        settings: BertScoreSettings,
        *,
        idf_references: Sequence[str] | None = None,
        dtype: Any = jnp.float32,
        room: int = 256,
        rows: int = 4,
    ) -> None:
        """Hold a model up to the layer that is compared.

        Args:
            config: of the model.
            params: of the model.
            tokenizer: of the model.
            settings: how texts are compared.
            idf_references: tokens weigh by how rare they are among these texts; None weighs them all alike.
            dtype: of activations and products; cosines are fp32.
            room: tokens of a packed row.
            rows: of a batch; a multiple of the devices that rows are cut along.
        """
        self._config = replace(config, num_layers=settings.layer)
        cut = jax.tree.map(lambda stack: stack[: settings.layer], params["layers"])
        self._params = params | {"layers": cut}
        self._tokenizer, self._settings, self._dtype = tokenizer, settings, jnp.dtype(dtype)
        self._room, self._rows = room, rows
        self._weights_V = self._weights(idf_references)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, as bert-score makes them: stripped; for RoBERTa a space in front; cut at 512."""
        before = " " if self._config.model_type == "roberta" else ""
        spaced = [before + text.strip() if text.strip() else "" for text in texts]
        return self._tokenizer.encode(spaced, min(_LONGEST, self._config.longest_text))

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[int, TokenScores]]:
        """Score (candidate, reference) pairs.

        An empty text on either side gives P = R = 0 before rescaling; so does one of which no token weighs anything, as
        where all of them stand in every reference.

        Yields:
            Place among `pairs` -> its scores, for the pairs of each batch as it finishes.
        """
        candidates = self.tokens([candidate for candidate, _ in pairs])
        references = self.tokens([reference for _, reference in pairs])
        for batch in packed_batches(list(zip(candidates, references, strict=True)), self._room, self._rows):
            sides = batch.sides
            best = _nearest(
                self._params,
                *(array for side in sides for array in (side.tokens_RT, side.places)),
                config=self._config,
                dtype=self._dtype,
            )
            best_RT, best_RS = (np.asarray(array, np.float64) for array in best)
            found: dict[int, TokenScores] = {}
            for number, row in enumerate(batch.rows):
                for segment, place in enumerate(row, start=1):
                    means = [
                        _weighed(
                            array[number], side.tokens_RT[number], side.segments_RT[number] == segment, self._weights_V
                        )
                        for array, side in zip((best_RT, best_RS), sides, strict=True)
                    ]
                    is_empty = min(len(candidates[place]), len(references[place])) <= 2
                    found[place] = self._finished(*((0.0, 0.0) if is_empty else means))
            yield found

    def best_scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[TokenScores]:
        """Score each candidate against several references; P, R and F are each the best that a reference gives."""
        pairs = [(text, other) for text, others in zip(candidates, references, strict=True) for other in others]
        found: dict[int, TokenScores] = {}
        for part in self.scores(pairs):
            found |= part
        best, start = [], 0
        for others in references:
            own = [found[place] for place in range(start, start + len(others))]
            best.append(TokenScores(*(max(values) for values in zip(*own, strict=True))))
            start += len(others)
        return best

    def _weights(self, references: Sequence[str] | None) -> np.ndarray:
        """The weight of each token id: its idf, or 1; special tokens weigh nothing."""
        size = max(self._config.vocab_size, self._tokenizer.vocab_size)
        weights_V = np.ones(size)
        if references is not None:
            counts_V = np.zeros(size)
            for ids in self.tokens(references):
                counts_V[list(set(ids))] += 1
            weights_V = np.log((len(references) + 1) / (counts_V + 1))
        weights_V[self.tokens([""])[0]] = 0
        return weights_V

    def _finished(self, precision: float, recall: float) -> TokenScores:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        if self._settings.baseline is None:
            return TokenScores(precision, recall, f1)
        values = zip((precision, recall, f1), self._settings.baseline, strict=True)
        return TokenScores(*((value - base) / (1 - base) for value, base in values))


def _weighed(best_T: np.ndarray, tokens_T: np.ndarray, is_own_T: np.ndarray, weights_V: np.ndarray) -> float:
    weights_T = weights_V[tokens_T[is_own_T]]
    total = weights_T.sum()
    return float(best_T[is_own_T] @ weights_T / total) if total else 0.0


@partial(jax.jit, static_argnames=("config", "dtype"))
def _nearest(
    params: Params,
    tokens_RT: jax.Array,
    places: Places,
    others_RS: jax.Array,
    other_places: Places,
    *,
    config: BertConfig,
    dtype: Any,
) -> tuple[jax.Array, jax.Array]:
    """[R, T] and [R, S] fp32: the largest cosine of each token to one of the other text of its pair."""
    model = bind(config, params)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (tokens_RT, *places), (others_RS, *other_places))
    states, _ = model.hidden(*both, dtype=dtype)
    states = states.astype(jnp.float32)
    states = states / jnp.maximum(jnp.linalg.norm(states, axis=-1, keepdims=True), 1e-30)
    ours_RTD, theirs_RSD = jnp.split(states, 2)
    cosines_RTS = jnp.einsum("RTD,RSD->RTS", ours_RTD, theirs_RSD, precision=jax.lax.Precision.HIGHEST)
    same_RTS = places.segment_ids_BT[:, :, None] == other_places.segment_ids_BT[:, None]
    cosines_RTS = jnp.where(same_RTS, cosines_RTS, _MASKED)
    return jnp.max(cosines_RTS, axis=2), jnp.max(cosines_RTS, axis=1)
