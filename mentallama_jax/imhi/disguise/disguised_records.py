"""A record with its identifiers replaced: the post, and the explanation by the same pseudonyms."""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain

from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey
from mentallama_jax.imhi.disguise.identifiers import find, find_again, replaced
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, Scope
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

DISGUISED = "disguised:"
"""What the source of a disguised record begins with."""


@dataclass(frozen=True, slots=True)
class Disguised:
    """A disguised record and how many identifiers were replaced in it.

    Attributes:
        record: the new record.
        post_counts: kind -> replacements in the post.
        explanation_counts: kind -> replacements in the explanation.
    """

    record: Record
    post_counts: Counter[str] = field(default_factory=Counter)
    explanation_counts: Counter[str] = field(default_factory=Counter)


def disguise_record(record: Record, key: DisguiseKey, *, scope: Scope = "post") -> Record:
    """The record with the identifiers in its post and explanation replaced; a disguised one is returned as it is.

    Id, data set, label, aspect and split stay, so that answers can be joined to the original by the id. The source,
    which may name a file or a place, becomes `disguised:ID`. The label sentence and the question are no part of a
    record and cannot change.

    Args:
        record: the original.
        key: the secret of the pseudonyms.
        scope: "post": the same name gets the same pseudonym within a post; "data": in all data of the key.
    """
    return disguise_counted(record, key, scope=scope).record


def disguise_counted(record: Record, key: DisguiseKey, *, scope: Scope = "post") -> Disguised:
    """As `disguise_record`, with the counts of what was replaced."""
    if is_disguised(record):
        return Disguised(record)
    pseudonyms = Pseudonyms(key, record.post_id, scope)
    in_post = find(record.post, pseudonyms)
    in_explanation = find_again(in_post, record.explanation, pseudonyms)
    new = replace(
        record,
        post=replaced(record.post, in_post),
        explanation=replaced(record.explanation, in_explanation),
        source=f"{DISGUISED}{record.id}",
    )
    return Disguised(new, Counter(each.kind for each in in_post), Counter(each.kind for each in in_explanation))


def is_disguised(record: Record) -> bool:
    """Whether a record says that it went through `disguise_record`."""
    return record.source.startswith(DISGUISED)


def disguise_prediction(
    prediction: Prediction, key: DisguiseKey, *, post: str = "", scope: Scope = "post"
) -> tuple[Prediction, Counter[str]]:
    """A prediction with the identifiers in its output, samples and gold response replaced, and how many there were.

    The pseudonyms are those of the post. `post_id`, which is a hash of the post, becomes a keyed one.

    Args:
        prediction: the original.
        key: the secret of the pseudonyms.
        post: the original post; without it, names that only the post gives away stay where they stand in running text.
        scope: as for `disguise_record`.
    """
    pseudonyms = Pseudonyms(key, prediction.post_id, scope)
    known = find(post, pseudonyms)
    in_output = find_again(known, prediction.generated_text, pseudonyms)
    in_gold = find_again([*known, *in_output], prediction.goldens, pseudonyms)
    in_samples = [find_again([*known, *in_output], text, pseudonyms) for text in prediction.samples]
    new = replace(
        prediction,
        post_id=pseudonyms.row_id(f"post {prediction.post_id}"),
        generated_text=replaced(prediction.generated_text, in_output),
        goldens=replaced(prediction.goldens, in_gold),
        samples=tuple(map(replaced, prediction.samples, in_samples)),
    )
    return new, Counter(each.kind for each in (*in_output, *in_gold, *chain.from_iterable(in_samples)))


def disguised_id(name: str, dataset: str, split: str, key: DisguiseKey) -> str:
    """A name for a row that only the key ties to the old one."""
    digits = Pseudonyms(key, "").row_id(name)
    return f"{dataset}/{split}/{digits}" if split else f"{dataset}/{digits}"
