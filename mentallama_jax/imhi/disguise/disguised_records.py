"""A record with its identifiers replaced: the post, and the explanation by the same pseudonyms."""

from collections import Counter
from dataclasses import dataclass, field, replace

from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey
from mentallama_jax.imhi.disguise.identifiers import find, find_again, replaced
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, Scope
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
