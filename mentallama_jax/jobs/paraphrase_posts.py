"""Has a model put disguised posts into other words, on disk batch by batch, and keeps the paraphrases within bounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mentallama_jax.evaluation.pair_metrics import Pair, PairMetric
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.resumable import records_fingerprint, signature_path, write_predictions
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.disguise.paraphrase import Paraphrased, ParaphraseSettings, paraphrase
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.prompts import encode_question, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.answer import Answerer, open_answerer
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.training.run.run_directory import versions

ASKED = (
    "Rewrite the text between the lines in your own words. Keep who speaks, what happened and how the writer feels. "
    "Change the order and the wording of sentences, so that no part of it can be found by searching for the old words. "
    "Add nothing, and answer with the new text alone.\n---\n{post}\n---\nThe new text:"
)
"""What a model is asked; `{post}` is the disguised post."""


def paraphrase_records(
    originals: Sequence[str],
    disguised: Sequence[Record],
    settings: ParaphraseSettings,
    work: Path,
    on_batch: Callable[[list[Prediction]], None] = lambda rows: None,
    begin: Callable[[int], None] = lambda rows: None,
) -> tuple[list[Record], Mapping[str, int]]:
    """Paraphrase the posts of records, each different post once.

    Args:
        originals: the posts before anything was replaced.
        disguised: the records, in the order of `originals`.
        settings: see there.
        work: a `.jsonl` that is written while the model answers, so that a stopped call resumes; removed at the end.
        on_batch: is told of each batch of answers.
        begin: is told how many posts there are, before the first.

    Returns:
        The records with the paraphrases that are kept, and outcome -> posts.

    Raises:
        UserError: no such model, or the file at `work` is of another call.
    """
    unique = {record.post: (original, record) for original, record in zip(originals, disguised, strict=True)}
    asked = [record for _, record in unique.values()]
    models = MetricModels(embedding=settings.embedding) if settings.embedding else MetricModels()
    metric = open_metrics([settings.similarity], models, [])[0]

    def rewrite(posts: Sequence[str]) -> list[str]:
        answerer = open_answerer(settings.model)
        begin(len(asked))
        rows = write_predictions(
            work,
            asked,
            _signature(answerer, asked, settings),
            lambda left: _answers(answerer, left, settings),
            on_batch,
        )
        return [row.generated_text for row in rows]

    found: Paraphrased = paraphrase(
        [original for original, _ in unique.values()],
        list(unique),
        rewrite,
        lambda pairs: _near(metric, pairs),
        settings.bounds,
    )
    new = dict(zip(unique, found.texts, strict=True))
    for path in (work, signature_path(work)):
        with suppress(FileNotFoundError):
            path.unlink()
    return [replace(record, post=new[record.post]) for record in disguised], found.counts


def _answers(answerer: Answerer, records: Sequence[Record], settings: ParaphraseSettings) -> Iterator[list[Prediction]]:
    """The model's texts; that of a post which is too long for it is empty."""
    prompts = [
        encode_question(ASKED.format(post=record.post), answerer.style, answerer.tokenizer) for record in records
    ]
    room = answerer.max_length - settings.max_new_tokens
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) <= room]
    too_long = [record for record, prompt in zip(records, prompts, strict=True) if len(prompt) > room]
    if too_long:
        yield [answer_to(record, "") for record in too_long]
    asked = Settings(settings.max_new_tokens, batch_size=settings.batch_size)
    ends = stop_ids(answerer.style, answerer.tokenizer)
    with answerer.on_mesh():
        names = [records[place].id for place in fitting]
        for batch in answerer.engine.answers([prompts[place] for place in fitting], names, asked, ends):
            yield [
                replace(
                    answer_to(records[fitting[row]], answerer.tokenizer.decode(without_end(answer)).strip()),
                    new_tokens=len(answer.tokens),
                )
                for row, answer in batch.items()
            ]


def _near(metric: PairMetric, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """How near the texts of pairs are; an empty one is near to none."""
    there = [place for place, pair in enumerate(pairs) if all(pair)]
    found = [0.0] * len(pairs)
    asked = [Pair(str(place), "", "", pairs[place][1], pairs[place][0]) for place in there]
    for batch in metric.scores(asked):
        for row, scores in batch.items():
            found[there[row]] = scores[0].value
    return found


def _signature(answerer: Answerer, records: Sequence[Record], settings: ParaphraseSettings) -> dict[str, object]:
    return {
        **answerer.opened.identity,
        "weights": answerer.weights,
        "tokenizer": answerer.tokenizer.fingerprint,
        "dtype": answerer.dtype,
        "style": answerer.style,
        "max_length": answerer.max_length,
        "mode": "paraphrase",
        "asked": ASKED,
        "max_new_tokens": settings.max_new_tokens,
        "rows": len(records),
        "records": records_fingerprint(records),
        "versions": versions(),
    }
