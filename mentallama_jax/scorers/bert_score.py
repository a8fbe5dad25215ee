"""BERTScore (Zhang et al. 2020): each token meets its nearest token of the other text, in the states of an encoder.

P is the mean over the tokens of the candidate of the largest cosine to a token of the reference, weighed by idf or not;
R the same the other way; F their harmonic mean. The special tokens can be met, and weigh nothing.

Shape suffixes: R rows, T places of a row, C tokens of a candidate, S tokens of a reference, D hidden.
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
from mentallama_jax.scorers.packed_texts import of_different_texts

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
_SPECIAL_TOKENS = 2
_PAIRS_AT_ONCE = 512


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
        sides = [self.tokens([pair[side] for pair in pairs]) for side in (0, 1)]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = [side[start : start + _PAIRS_AT_ONCE] for side in sides]
            states = self._states([*part[0], *part[1]])
            yield {
                start + place: self._score(candidate, reference, states)
                for place, (candidate, reference) in enumerate(zip(*part, strict=True))
            }

    def _states(self, texts: Sequence[Sequence[int]]) -> dict[tuple[int, ...], np.ndarray]:
        """The states of the tokens of each different text, [tokens, D] fp32 of length 1."""
        return of_different_texts(
            texts,
            self._room,
            self._rows,
            lambda side: _unit_states(
                self._params, side.tokens_RT, side.places, config=self._config, dtype=self._dtype
            ),
            lambda states_TD, segments_T, segment: states_TD[segments_T == segment],
        )

    def _score(
        self, candidate: Sequence[int], reference: Sequence[int], states: Mapping[tuple[int, ...], np.ndarray]
    ) -> TokenScores:
        if min(len(candidate), len(reference)) <= _SPECIAL_TOKENS:
            return self._finished(0.0, 0.0)
        cosines_CS = states[tuple(candidate)] @ states[tuple(reference)].T
        precision = self._weighed(cosines_CS.max(axis=1), candidate)
        return self._finished(precision, self._weighed(cosines_CS.max(axis=0), reference))

    def _weighed(self, best_C: np.ndarray, ids: Sequence[int]) -> float:
        """The mean by the weights of the tokens; 0 where none weighs anything."""
        weights_C = self._weights_V[list(ids)]
        total = weights_C.sum()
        return float(best_C.astype(np.float64) @ weights_C / total) if total else 0.0

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


@partial(jax.jit, static_argnames=("config", "dtype"))
def _unit_states(params: Params, tokens_RT: jax.Array, places: Places, *, config: BertConfig, dtype: Any) -> jax.Array:
    """[R, T, D] fp32: the states of the last layer, each of length 1."""
    states_RTD, _ = bind(config, params).hidden(tokens_RT, *places, dtype=dtype)
    states_RTD = states_RTD.astype(jnp.float32)
    return states_RTD / jnp.maximum(jnp.linalg.norm(states_RTD, axis=-1, keepdims=True), 1e-30)
