"""Options of all commands that compute metrics of explanations, and how far the metrics are."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mentallama_jax.cli.speed_progress import speed_progress
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.jobs.metric_models import MetricModels


def add_metric_models(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which models metrics are computed with."""
    group = parser.add_argument_group("models of the metrics, each a folder or a hub id")
    group.add_argument(
        "--bartscore-model",
        metavar="MODEL",
        type=expanded,
        default="facebook/bart-large-cnn",
        help="a BART (default: %(default)s)",
    )
    group.add_argument(
        "--bartscore-weights",
        metavar="FILE",
        type=local_path,
        help="other weights for it, such as the bart_score.pth that was tuned on paraphrases (ParaBank2)",
    )
    group.add_argument(
        "--bertscore-model",
        metavar="MODEL",
        type=expanded,
        default="FacebookAI/roberta-large",
        help="a BERT or RoBERTa (default: %(default)s)",
    )
    group.add_argument(
        "--bertscore-layer", metavar="N", type=int, help="the layer to compare (default: the one known for the model)"
    )
    group.add_argument(
        "--bertscore-idf", action="store_true", help="weigh tokens by how rare they are among the references"
    )
    group.add_argument(
        "--bertscore-rescale", action="store_true", help="make the score of random English pairs 0, by the known table"
    )
    group.add_argument(
        "--embedding-model",
        metavar="MODEL",
        type=expanded,
        default="sentence-transformers/all-MiniLM-L6-v2",
        help="an encoder of sentences (default: %(default)s)",
    )
    group.add_argument(
        "--lm-model", metavar="MODEL", type=expanded, help="a LLaMA, for lm: whatever `mentallama generate` takes"
    )
    group.add_argument(
        "--adapter", type=local_path, metavar="FOLDER", help="a PEFT adapter (LoRA, DoRA) to merge into --lm-model"
    )
    group.add_argument(
        "--data",
        metavar="SOURCE",
        type=expanded,
        action="append",
        default=[],
        help="where the posts are, for lm, bartscore_faithfulness, and quotes, names and numbers of explanations that "
        "the post does not have; matched by the ids of rows; may be repeated",
    )


def metric_models(options: argparse.Namespace) -> "MetricModels":
    """The models that the options of `add_metric_models` name."""
    from mentallama_jax.jobs.metric_models import MetricModels

    if options.adapter is not None and options.lm_model is None:
        raise UserError(f"--adapter {options.adapter}: adapts --lm-model; name that model too")
    return MetricModels(
        bartscore=options.bartscore_model,
        bartscore_weights=options.bartscore_weights,
        bertscore=options.bertscore_model,
        bertscore_layer=options.bertscore_layer,
        bertscore_idf=options.bertscore_idf,
        bertscore_rescale=options.bertscore_rescale,
        embedding=options.embedding_model,
        lm=options.lm_model,
        lm_adapter=options.adapter,
        data=options.data,
    )


def scoring_progress(title: str, pairs: int) -> AbstractContextManager[Callable[[int], None]]:
    """A bar with pairs a second, where standard error is a terminal."""
    return speed_progress(title, pairs, " pairs")
