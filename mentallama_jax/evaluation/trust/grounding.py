"""Whether explanations speak of their posts: quotes, names and numbers that the post has, and reasons of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.counted_shares import CountedShare, counted_shares
from mentallama_jax.evaluation.trust.generic_explanations import generic_explanations
from mentallama_jax.evaluation.trust.label_only import reasons_of
from mentallama_jax.evaluation.trust.named_things import NamedPost, named_things
from mentallama_jax.evaluation.trust.quotes import Quote, QuotedPost, find_quotes, words_of
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import Task

DEFINITIONS = {
    "label_only": "outputs that state no more than their label",
    "generic": "explanations that are near-copies of one of another post in the same data set (three neighbouring "
    "words, Jaccard index of at least 0.8); pooled over data sets: the same rows",
    "quoting": "explanations that quote anything but a label",
    "absent_quotes": "quotes whose words do not stand in the post, among all quotes; case, blanks and punctuation are "
    "free, an ellipsis stands for any words",
    "rows_with_absent_quotes": "rows with such a quote, among all rows",
    "absent_names": "capitalised names that the post does not have, among all names; of tasks in English",
    "rows_with_absent_names": "rows with such a name, among all rows",
    "absent_numbers": "numbers that the post does not have, in digits or words, among all numbers",
    "rows_with_absent_numbers": "rows with such a number, among all rows",
}


@dataclass(frozen=True, slots=True)
class RowGrounding:
    """What was found in the explanation of one row.

    Attributes:
        dataset: canonical name.
        post: id of the post.
        label_only: whether it gives no reasons.
        generic: whether it is, nearly, that of another post too.
        quoting: whether it quotes anything but a label.
        quotes: of each quote, whether the post has it; None without posts.
        names: the same of names.
        numbers: the same of numbers.
    """

    dataset: str
    post: str
    label_only: bool
    generic: bool
    quoting: bool
    quotes: tuple[bool, ...] | None
    names: tuple[bool, ...] | None
    numbers: tuple[bool, ...] | None


@dataclass(frozen=True, slots=True)
class GroundingScores:
    """Shares of one data set or of all rows; `DEFINITIONS` says what each counts. None where posts are not known."""

    label_only: CountedShare
    generic: CountedShare
    quoting: CountedShare
    absent_quotes: CountedShare | None = None
    rows_with_absent_quotes: CountedShare | None = None
    absent_names: CountedShare | None = None
    rows_with_absent_names: CountedShare | None = None
    absent_numbers: CountedShare | None = None
    rows_with_absent_numbers: CountedShare | None = None


@dataclass(frozen=True, slots=True)
class Grounding:
    """What `scores.json` holds under `grounding`; `schema` documents each key.

    Attributes:
        datasets: data set -> shares.
        pooled: shares of all rows.
        posts_given: whether the posts were there to look in.
        definitions: figure -> its definition.
    """

    datasets: dict[str, GroundingScores]
    pooled: GroundingScores
    posts_given: bool
    definitions: dict[str, str]


def grounding(rows: Sequence[Prediction], posts: Mapping[str, str] | None, settings: IntervalSettings) -> Grounding:
    """Count what explanations take from their posts, and what they do not.

    Args:
        rows: outputs.
        posts: row id -> the text of its post; None where posts are not given, which leaves out what needs them.
        settings: of the intervals, which are over posts.
    """
    found = row_grounding(rows, posts)
    names = dict.fromkeys(row.dataset for row in rows)
    return Grounding(
        datasets={name: _scores([row for row in found if row.dataset == name], settings) for name in names},
        pooled=_scores(found, settings),
        posts_given=posts is not None,
        definitions=DEFINITIONS,
    )


def row_grounding(rows: Sequence[Prediction], posts: Mapping[str, str] | None) -> list[RowGrounding]:
    """What is found in each explanation, in the order of rows; the arguments are those of `grounding`."""
    reasons = [reasons_of(row.generated_text, row.task) for row in rows]
    generic = [False] * len(rows)
    for name in dict.fromkeys(row.dataset for row in rows):
        places = [place for place, row in enumerate(rows) if row.dataset == name]
        flags = generic_explanations([reasons[place] for place in places], [rows[place].post_id for place in places])
        for place, flag in zip(places, flags, strict=True):
            generic[place] = flag
    found = []
    for row, text, flag in zip(rows, reasons, generic, strict=True):
        quotes = quotes_of_post(text, row.task)
        of_post: tuple[tuple[bool, ...] | None, ...] = (None, None, None)
        if posts is not None:
            post = QuotedPost(posts[row.id])
            named = NamedPost(post)
            # Capitals are the sign of names in English only: German has them on every noun, other scripts on none.
            things = [thing for thing in named_things(text) if thing.kind != "name" or row.task.in_english]
            of_post = (
                tuple(bool(post.locate(quote.text)) for quote in quotes),
                tuple(named.has(thing) for thing in things if thing.kind == "name"),
                tuple(named.has(thing) for thing in things if thing.kind == "number"),
            )
        found.append(RowGrounding(row.dataset, row.post_id, not text, flag, bool(quotes), *of_post))
    return found


def quotes_of_post(explanation: str, task: Task) -> list[Quote]:
    """The quotes of an explanation, without those that only name a label or the question."""
    return [quote for quote in find_quotes(explanation) if not _names_label(quote.text, task)]


def _names_label(quote: str, task: Task) -> bool:
    words = {_stem(word.folded) for word in words_of(quote)}
    return bool(words) and any(words <= label for label in _label_words(task))


@lru_cache(64)
def _label_words(task: Task) -> list[frozenset[str]]:
    questions = [task.question.format(aspect=aspect) for aspect in task.aspects or ("",)]
    aliases = [alias for of_label in task.label_aliases.values() for alias in of_label]
    wordings = [*task.labels, *task.completion_words.values(), *task.sentences.values(), *aliases, *questions]
    return [frozenset(_stem(word.folded) for word in words_of(text)) for text in (*wordings, "other", "none")]


def _stem(word: str) -> str:
    return word.removesuffix("s")


def _scores(rows: Sequence[RowGrounding], settings: IntervalSettings) -> GroundingScores:
    posts = [row.post for row in rows]
    figures = {
        "label_only": [row.label_only for row in rows],
        "generic": [row.generic for row in rows],
        "quoting": [row.quoting for row in rows],
    }
    counted: dict[str, CountedShare] = {}
    for kind in ("quotes", "names", "numbers"):
        flags: list[tuple[bool, ...] | None] = [getattr(row, kind) for row in rows]
        if any(of_row is None for of_row in flags):
            continue
        known = [of_row or () for of_row in flags]
        figures[f"rows_with_absent_{kind}"] = [not all(of_row) for of_row in known]
        absent = [not flag for of_row in known for flag in of_row]
        of_things = [post for post, of_row in zip(posts, known, strict=True) for _ in of_row]
        counted |= counted_shares({f"absent_{kind}": absent}, of_things, settings)
    return GroundingScores(**counted_shares(figures, posts, settings), **counted)
