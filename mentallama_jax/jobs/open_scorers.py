"""Opens the metrics of explanations that need a model, on all devices of this process."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.pair_metrics import Figure, Pair, PairMetric, Score
from mentallama_jax.formats.assembly import assemble, fitted
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.hf import read_hf_config
from mentallama_jax.formats.load import open_tensors
from mentallama_jax.formats.locate import is_hub_id, locate
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.formats.torch_folder import TorchFolder
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.resumable import records_fingerprint
from mentallama_jax.host_memory import keep_freed_memory
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.answer import open_answerer
from mentallama_jax.jobs.metric_models import DIRECTIONS_OF_BARTSCORE, MetricModels
from mentallama_jax.jobs.posts_by_id import records_by_id
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, abstract_params, param_dimensions
from mentallama_jax.models.registry import AnyModelConfig
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.rules import tree_shardings
from mentallama_jax.scorers.bart_score import ROOM, ROOM_ON_CPU, ROWS_OF_A_DEVICE, ROWS_ON_CPU, SequenceScorer
from mentallama_jax.scorers.bert_score import (
    REFERENCE_VERSION,
    BertScorer,
    BertScoreSettings,
    baseline_of,
    layer_of,
)
from mentallama_jax.scorers.embedding_similarity import EmbeddingSimilarity
from mentallama_jax.scorers.explanation_metrics import (
    BartScoreMetric,
    BertScoreMetric,
    EmbeddingMetric,
    LanguageModelMetric,
)
from mentallama_jax.scorers.lm_score import LanguageModelScorer

_T5_LONGEST = 512


class OnDevices:
    """A metric whose model computes on a mesh, with products in full fp32; see `PairMetric`."""

    def __init__(self, metric: PairMetric, mesh: Mesh | None) -> None:
        """Wrap a metric; `mesh` is None on one device."""
        self._metric, self._mesh = metric, mesh

    @property
    def figures(self) -> Sequence[Figure]:
        """See `PairMetric`."""
        return self._metric.figures

    @property
    def empty_score(self) -> float | None:
        """See `PairMetric`."""
        return self._metric.empty_score

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        around: AbstractContextManager[Any] = use_mesh(self._mesh) if self._mesh else nullcontext()
        with around, jax.default_matmul_precision("highest"):
            yield from self._metric.scores(pairs)


def open_model_metrics(names: Sequence[str], models: MetricModels, references: Sequence[str]) -> list[PairMetric]:
    """Open metrics; the arguments are as in `jobs.open_metrics.open_metrics`.

    Raises:
        UserError: a model that cannot be opened, or one of another kind than the metric needs.
    """
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    devices = jax.local_devices()
    mesh = make_mesh(MeshSection(data=len(devices), fsdp=1), devices) if len(devices) > 1 else None
    records = records_by_id(models.data) if models.data else None
    found: list[PairMetric] = []
    if directions := [name for name in names if name in DIRECTIONS_OF_BARTSCORE]:
        if "bartscore_faithfulness" in directions and records is None:
            raise UserError("--metrics bartscore_faithfulness: name the posts with --data")
        found.append(OnDevices(_bartscore(directions, models, records, mesh), mesh))
    if "bertscore" in names:
        found.append(OnDevices(_bertscore(models, references, mesh), mesh))
    if "embedding" in names:
        found.append(OnDevices(_embedding(models, mesh), mesh))
    if "lm" in names:
        # A language model may be too large for one device, so its weights are cut along the mesh.
        whole = make_mesh(MeshSection(), devices) if len(devices) > 1 else None
        found.append(OnDevices(_lm(models, records, whole), whole))
    return found


def _bartscore(
    names: Sequence[str], models: MetricModels, records: dict[str, Record] | None, mesh: Mesh | None
) -> PairMetric:
    config, params, tokenizer, said = _open(
        models.bartscore, "bartscore", (BartConfig, T5Config), mesh, models.bartscore_weights
    )
    longest = config.max_positions if isinstance(config, BartConfig) else _T5_LONGEST
    room = ROOM_ON_CPU if jax.default_backend() == "cpu" else ROOM
    scorer = SequenceScorer(config, params, room=room, rows=_rows(mesh))
    said = f"natural log, both texts cut at {longest} tokens; {said}"
    return BartScoreMetric(scorer, lambda texts: tokenizer.encode(texts, longest), names, said, records)


def _bertscore(models: MetricModels, references: Sequence[str], mesh: Mesh | None) -> PairMetric:
    config, params, tokenizer, said = _open(models.bertscore, "bertscore", (BertConfig,), mesh)
    layer = layer_of(models.bertscore, config, models.bertscore_layer)
    baseline = baseline_of(models.bertscore, layer) if models.bertscore_rescale else None
    seen = tuple(references) if models.bertscore_idf else None
    scorer = BertScorer(
        config, params, tokenizer, BertScoreSettings(layer, baseline), idf_references=seen, rows=2 * _rows(mesh)
    )
    idf = "no-idf" if seen is None else "idf"
    rescaled = "" if baseline is None else "-rescaled"
    name = models.bertscore.rstrip("/").rpartition("/")[2]
    words = f"{name}_L{layer}_{idf}_version={REFERENCE_VERSION}(mentallama_jax){rescaled}"
    if seen is not None:
        words += f"; idf over {len(seen)} references {_digest(seen)}"
    return BertScoreMetric(scorer, f"{words}; {said}", rescaled=baseline is not None)


def _embedding(models: MetricModels, mesh: Mesh | None) -> PairMetric:
    config, params, tokenizer, said = _open(models.embedding, "embedding", (BertConfig,), mesh)
    scorer = EmbeddingSimilarity(config, params, tokenizer, rows=2 * _rows(mesh))
    return EmbeddingMetric(scorer, f"cosine of the means of token states, cut at {config.longest_text} tokens; {said}")


def open_embeddings(source: str) -> tuple[EmbeddingSimilarity, str]:
    """An encoder of sentences on the first device, and what the signature says of it.

    Raises:
        UserError: no such model, or no encoder.
    """
    config, params, tokenizer, said = _open(source, "embedding", (BertConfig,), None, option="--shots-encoder")
    return EmbeddingSimilarity(config, params, tokenizer, rows=2 * _rows(None)), said


def _lm(models: MetricModels, records: dict[str, Record] | None, mesh: Mesh | None) -> PairMetric:
    if models.lm is None or records is None:
        raise UserError("--metrics lm: name a language model with --lm-model and the questions with --data")
    answerer = open_answerer(models.lm, adapter=models.lm_adapter, dtype="float32", mesh=mesh)
    scorer = LanguageModelScorer(
        answerer.engine,
        answerer.tokenizer,
        style=answerer.style,
        max_length=answerer.max_length,
        settings=Settings(batch_size=8),
    )
    said = (
        f"{answerer.opened.name}, weights {answerer.weights[:12]}, tokenizer {answerer.tokenizer.fingerprint[:12]}, "
        f"style {answerer.style}, at most {answerer.max_length} tokens, float32"
    )
    questions = records_fingerprint(sorted(records.values(), key=lambda record: record.id))
    return LanguageModelMetric(scorer, records, f"{said}; questions {questions[:12]}")


def _open(
    source: str,
    metric: str,
    kinds: tuple[type[AnyModelConfig], ...],
    mesh: Mesh | None,
    other_weights: Path | None = None,
    option: str = "",
) -> tuple[Any, Params, EncoderTokenizer, str]:
    """A model, its tokenizer, and what the signature says of both."""
    option = option or f"--{metric}-model"
    with _advice(source, option):
        folder = locate(source, weights=other_weights is None)
        if not folder.is_dir():
            raise UserError(f"{option} {source}: not a Hugging Face folder, which is needed here")
        if other_weights is None:
            config, file = open_tensors(source)
        else:
            if not other_weights.is_file():
                raise UserError(f"{other_weights}: no such file")
            config = read_hf_config(folder)
            file = TorchFolder.of_file(other_weights)
            config = fitted(config, file)
    if not isinstance(config, kinds):
        wanted = " or ".join(kind.model_type for kind in kinds)
        raise UserError(f"{option} {source}: is a {config.model_type}; a {wanted} is needed here")
    tokenizer = EncoderTokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size + 1:  # some published BARTs have a mask token beyond the table
        raise UserError(
            f"{source}: its tokenizer has ids up to {tokenizer.vocab_size - 1}, the model {config.vocab_size} rows"
        )
    params = assemble(file, config, jnp.float32, _shardings(config, mesh))
    weights = source_fingerprint(source) if other_weights is None else _file_digest(other_weights)
    name = source if other_weights is None else f"{source} with {other_weights.name}"
    return config, params, tokenizer, f"{name}, weights {weights[:12]}, tokenizer {tokenizer.fingerprint[:12]}, float32"


@contextmanager
def _advice(source: str, option: str) -> Iterator[None]:
    """Say how to fetch a model that the hub does not give here.

    Raises:
        UserError: the block raised one.
    """
    try:
        yield
    except UserError as error:
        if not is_hub_id(source):
            raise
        folder = source.rpartition("/")[2]
        raise UserError(
            f"{error} (where there is a network: hf download {source} --local-dir {folder}; then {option} {folder})"
        ) from None


def _shardings(config: AnyModelConfig, mesh: Mesh | None) -> Any:
    return None if mesh is None else tree_shardings(mesh, param_dimensions(config), abstract_params(config))


def _rows(mesh: Mesh | None) -> int:
    """Rows of a batch: a few on an accelerator, one on a CPU, on each device."""
    devices = 1 if mesh is None else mesh.size
    return devices * (ROWS_ON_CPU if jax.default_backend() == "cpu" else ROWS_OF_A_DEVICE)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
