"""Posts that several splits or data sets share: what a model is tested on may have been trained on.

Posts are the same if their texts are, case and white space aside (`records.post_id`). What `near_copies` finds besides,
posts that were cut or changed in a place, is reported and dropped apart from these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mentallama_jax.imhi.data_files.sources import SPLITS
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

Part = tuple[str, str]
"""A data set and a split of it ("" where the rows do not say)."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Posts of a validation or test split that occur in training posts.

    Attributes:
        dataset: whose validation or test posts.
        split: "val" or "test".
        posts: different posts of the split.
        own: of these, how many are training posts of the same data set.
        others: data set -> how many are training posts of it.
        any: how many are training posts of any data set.
    """

    dataset: str
    split: str
    posts: int
    own: int
    others: dict[str, int]
    any: int


@dataclass(frozen=True, slots=True)
class SharedPosts:
    """The leak report.

    Attributes:
        parts: data sets and splits, in the order of the benchmark.
        matrix: [part][part], how many posts two parts share; the diagonal counts the posts of a part.
        leaks: one for each validation and test part, where training posts were read at all.
    """

    parts: list[Part]
    matrix: list[list[int]]
    leaks: list[Leak]


def shared_posts(records: Sequence[Record]) -> SharedPosts:
    """Find the posts that several parts share."""
    posts = posts_by_part(records)
    training = {dataset: ids for (dataset, split), ids in posts.items() if split == "train"}
    return SharedPosts(
        parts=list(posts),
        matrix=[[len(first & second) for second in posts.values()] for first in posts.values()],
        leaks=[_leak(part, ids, training) for part, ids in posts.items() if part[1] in ("val", "test") and training],
    )


def posts_by_part(records: Sequence[Record]) -> dict[Part, set[str]]:
    """Part -> ids of its posts, in the order of the benchmark."""
    posts: dict[Part, set[str]] = {}
    for record in records:
        posts.setdefault((record.dataset, record.split), set()).add(record.post_id)
    order = {(dataset, split): place for place, (dataset, split) in enumerate(_benchmark_parts())}
    return dict(sorted(posts.items(), key=lambda entry: order[entry[0]]))


def _benchmark_parts() -> list[Part]:
    return [(dataset, split) for dataset in TASKS for split in (*SPLITS, "")]


def _leak(part: Part, posts: set[str], training: dict[str, set[str]]) -> Leak:
    dataset, split = part
    found = {name: len(posts & ids) for name, ids in training.items()}
    return Leak(
        dataset=dataset,
        split=split,
        posts=len(posts),
        own=found.get(dataset, 0),
        others={name: count for name, count in found.items() if name != dataset and count},
        any=len(posts & set().union(*training.values())),
    )
