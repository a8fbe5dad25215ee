"""Which records a run sees: data sets taken or left out, weighted, free of leaks, cut to a number of rows.

Every choice is a function of a record's identity and the seed, so it does not depend on the order of the input
or on which other records are there, but where labels are balanced: that depends on how many there are of each.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import held_out, task_named

ALL = "all"


def mix(
    records: Sequence[Record],
    *,
    datasets: Sequence[str] = (ALL,),
    exclude: Collection[str] = (),
    weights: Mapping[str, float] | None = None,
    balance_labels: bool = False,
    drop_posts: Collection[str] | None = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> list[Record]:
    """Choose records for training, validation or a test.

    Args:
        records: what there is.
        datasets: names or aliases of the data sets to take, or `all`.
        exclude: names or aliases to leave out of these; `tasks.held_out()` makes the paper's IMHI-general.
        weights: data set -> how many times its rows are seen, above 0; 1 where absent. 2.3 gives every row twice
            and 30 % of the posts a third time; a post's questions are chosen together.
        balance_labels: see each label of a data set, or of an aspect of it, as often as the others of it: rows of
            commoner labels are left out and those of rarer ones repeated, so that a data set keeps its size.
        drop_posts: `Record.post_id` of posts that must not occur. By default those of the test rows, among
            `records`, of the data sets left out, and of their near-copies: a held-out task is not held out if its test
            posts are trained on.
        max_rows: keep at most this many rows, chosen evenly at random over what is left.
        seed: of every random choice.

    Returns:
        The rows in the order of `records`, repeats next to each other.

    Raises:
        UserError: an unknown data set, a weight or a number of rows that is not above 0, or nothing is left.
    """
    taken = _wanted(records, datasets, exclude)
    times = {task_named(name).name: weight for name, weight in (weights or {}).items()}
    for name, weight in times.items():
        if not weight > 0:
            raise UserError(
                f"the weight of {name} is {weight}; leave a data set out with exclude, or give a number above 0"
            )
        if name not in taken:
            raise UserError(f"a weight is given for {name}, which is not among the data sets taken ({_listed(taken)})")
    if max_rows is not None and max_rows < 1:
        raise UserError(f"max_rows is {max_rows}; give a number above 0")
    if drop_posts is None:
        drop_posts = forbidden_posts(held_out_rows(records, exclude), records).posts
    dropped = frozenset(drop_posts)
    allowed = [
        record for record in records if record.dataset in taken and (not dropped or record.post_id not in dropped)
    ]
    shares = _balancing(allowed) if balance_labels else {}
    chosen = [
        record
        for record in allowed
        for _ in range(_repeats(record, times.get(record.dataset, 1.0) * shares.get(_answer(record), 1.0), seed))
    ]
    if not chosen:
        reason = f" after dropping {len(dropped)} posts that must not occur" if dropped else ""
        raise UserError(f"no record of {_listed(taken)} is left{reason}; {len(records)} records were given")
    return chosen if max_rows is None else sample_rows(chosen, max_rows, seed)


def held_out_rows(records: Iterable[Record], exclude: Collection[str] | None = None) -> list[Record]:
    """The test rows of data sets left out, by default `held_out()`: their posts must not be trained on."""
    left_out = {task_named(name).name for name in (held_out() if exclude is None else exclude)}
    return [record for record in records if record.dataset in left_out and record.split == "test"]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The posts that must not occur among rows, and where copies of them stand all the same.

    Attributes:
        posts: ids of the posts, see `Record.post_id`, near-copies among the rows included.
        originals: how many of them are posts of the tests themselves.
        near_copies: for each near-copy among the rows: the id of its row, that of the test's row, how similar they are.
    """

    posts: frozenset[str]
    originals: int
    near_copies: tuple[tuple[str, str, float], ...]


def forbidden_posts(tests: Iterable[Record], rows: Iterable[Record]) -> Forbidden:
    """The posts of `tests`, and those of `rows` that are copies of them in another spelling (see `near_copies`)."""
    from mentallama_jax.imhi.audit.near_copies import near_copies_of

    of_tests: dict[str, Record] = {}
    of_rows: dict[str, Record] = {}
    for records, kept in ((tests, of_tests), (rows, of_rows)):
        for record in records:
            kept.setdefault(record.post_id, record)
    if not of_tests:
        return Forbidden(frozenset(), 0, ())
    pairs = near_copies_of(
        {post: record.post for post, record in of_tests.items()},
        {post: record.post for post, record in of_rows.items()},
    )
    return Forbidden(
        posts=frozenset(of_tests) | {pair.second for pair in pairs},
        originals=len(of_tests),
        near_copies=tuple((of_rows[pair.second].id, of_tests[pair.first].id, pair.similarity) for pair in pairs),
    )


def sample_rows(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """Keep `count` rows (or all, if fewer), the same ones in whatever order they come; their order is kept."""
    keys = [
        (draw(seed, "rows", record.id, record.dataset, record.aspect), index) for index, record in enumerate(records)
    ]
    kept = sorted(index for _, index in sorted(keys)[:count])
    return [records[index] for index in kept]


def choose_rows(
    records: Sequence[Record], datasets: Sequence[str] = (ALL,), max_rows: int | None = None, seed: int = 0
) -> list[Record]:
    """The rows of some data sets, of each at most `max_rows`, which `seed` chooses; their order is kept.

    Raises:
        UserError: a data set that is not there.
    """
    found = mix(records, datasets=datasets, drop_posts=())
    if max_rows is None:
        return found
    kept = {
        record.id
        for name in {record.dataset for record in found}
        for record in sample_rows([each for each in found if each.dataset == name], max_rows, seed)
    }
    return [record for record in found if record.id in kept]


def group_by_post(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Post id -> its records, in order of first appearance: the questions about one post are not independent."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.post_id, []).append(record)
    return groups


def split_by_post(records: Iterable[Record], shares: Mapping[str, float], seed: int = 0) -> dict[str, list[Record]]:
    """Divide records so that no post is in two parts.

    A post's part depends on its text and the seed alone, so parts stay as they are when records are added, and
    their sizes keep to the shares only roughly.

    Args:
        records: what to divide.
        shares: name of a part -> its share of the posts; they must add up to 1.
        seed: another seed gives another division.

    Returns:
        Name of a part -> its records, in their order; a part may be empty.

    Raises:
        UserError: a share is negative, or they do not add up to 1.
    """
    if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise UserError(f"shares must not be negative and must add up to 1, not {dict(shares)}")
    names = [name for name, share in shares.items() if share]
    parts: dict[str, list[Record]] = {name: [] for name in shares}
    for post, group in group_by_post(records).items():
        place = draw(seed, "split", post)
        for name in names:
            place -= shares[name]
            if place < 0:
                break
        parts[name].extend(group)
    return parts


def _wanted(records: Sequence[Record], datasets: Sequence[str], exclude: Collection[str]) -> list[str]:
    present = list(dict.fromkeys(record.dataset for record in records))
    named = present if ALL in datasets else list(dict.fromkeys(task_named(name).name for name in datasets))
    absent = [name for name in named if name not in present]
    if absent:
        raise UserError(f"no record of {_listed(absent)} was read (there are: {_listed(present)})")
    left_out = {task_named(name).name for name in exclude}
    return [name for name in named if name not in left_out]


def _answer(record: Record) -> tuple[str, str, str]:
    return record.dataset, record.aspect, record.label


def _balancing(records: Iterable[Record]) -> dict[tuple[str, str, str], float]:
    """(Data set, aspect, label) -> how often its rows are seen, where all labels of a question are seen as often."""
    counts = Counter(_answer(record) for record in records if record.label)
    of_question: dict[tuple[str, str], list[int]] = {}
    for (dataset, aspect, _), count in counts.items():
        of_question.setdefault((dataset, aspect), []).append(count)
    means = {question: sum(found) / len(found) for question, found in of_question.items()}
    return {answer: means[answer[:2]] / count for answer, count in counts.items()}


def _repeats(record: Record, weight: float, seed: int) -> int:
    whole = int(weight)
    return whole + (draw(seed, "weight", record.dataset, record.post_id) < weight - whole)


def draw(seed: int, *identity: str) -> float:
    """A number in [0, 1) that is a function of its arguments."""
    digest = hashlib.sha256("\0".join((str(seed), *identity)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
