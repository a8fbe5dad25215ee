"""Variants of posts: what is deleted and kept makes up the post, and what is changed is what the change says."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.explained_parts import clauses, explained_parts
from mentallama_jax.evaluation.probes.fairness import prefixed
from mentallama_jax.evaluation.probes.perturbations import PERTURBATIONS
from mentallama_jax.evaluation.probes.post_words import alone, covering, places, random_runs, runs_of, without, words_of
from mentallama_jax.evaluation.probes.prefix_table import packaged_prefixes, read_prefixes
from mentallama_jax.evaluation.probes.quoted_parts import quoted_stretches
from mentallama_jax.evaluation.probes.rewordings import packaged_rewordings, read_rewordings, reworded
from mentallama_jax.imhi.prompts import label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import completion_query, instruction_query

POST = "I can't sleep. All is grey, and nobody at work calls me any more. The bus was late again."
posts = st.text(st.characters(codec="utf-8"), max_size=60) | st.lists(
    st.sampled_from(["I", "cannot", "sleep.", "Work,", "is", "hard!", "\n", "ok"]), max_size=20
).map(" ".join)


def words_at(post: str, runs) -> list[str]:
    return [word.strip() for place, word in enumerate(words_of(post)) if place in places(runs)]


@given(posts, st.sets(st.integers(0, 30)))
def test_words_make_up_the_post_and_so_does_what_is_deleted_with_what_is_kept(post, chosen):
    words = words_of(post)
    assert "".join(words) == (post if post.strip() else "")
    runs = runs_of({place for place in chosen if place < len(words)})
    kept, left = alone(words, runs).split(), without(words, runs).split()
    merged = [(kept if place in places(runs) else left).pop(0) for place in range(len(words))]
    assert merged == post.split()
    assert not kept
    assert not left


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.integers(0, 1000))
def test_random_runs_have_the_same_lengths_and_do_not_overlap(number, chosen, seed):
    runs = runs_of({place for place in chosen if place < number})
    drawn = random_runs(number, runs, np.random.default_rng(seed))
    assert sorted(stop - start for start, stop in drawn) == sorted(stop - start for start, stop in runs)
    assert len(places(drawn)) == len(places(runs))
    assert all(0 <= start < stop <= number for start, stop in drawn)
    assert drawn == random_runs(number, runs, np.random.default_rng(seed))


def test_random_runs_are_evenly_spread():
    generator = np.random.default_rng(0)
    starts = [random_runs(5, ((0, 2),), generator)[0][0] for _ in range(4000)]
    np.testing.assert_allclose(np.bincount(starts) / 4000, [0.25] * 4, atol=0.03)


def test_runs_that_do_not_fit_are_no_runs():
    with pytest.raises(ValueError, match="do not fit"):
        random_runs(2, ((0, 3),), np.random.default_rng(0))


@given(posts, st.integers(0, 60), st.integers(0, 60))
def test_whole_words_are_covered(post, start, stop):
    covered = words_at(post, covering(words_of(post), [(start, stop)]))
    assert "".join(post[start:stop].split()) in "".join(covered)


@pytest.mark.parametrize(
    ("explanation", "quoted"),
    [
        ('They say "all is GREY" and more.', ["All", "is", "grey,"]),
        ("They say “can’t sleep” here.", ["can't", "sleep."]),
        ("They say 'nobody at work' here; it's sad.", ["nobody", "at", "work"]),
        ('They say "All is grey ... the bus".', ["All", "is", "grey,", "The", "bus"]),
        ("Sie sagen „all is grey“ und «nobody at work».", ["All", "is", "grey,", "nobody", "at", "work"]),
        ('They say "all was blue" here.', []),
        ('The answer is "no" or "it".', []),
        ("Nothing in quotes, it's theirs and the parents' own.", []),
    ],
)
def test_quotes_are_located(explanation, quoted):
    assert words_at(POST, covering(words_of(POST), quoted_stretches(POST, explanation))) == quoted


def test_quotes_come_before_shared_words():
    found = explained_parts(POST, 'Nobody calls from work any more, and they say "all is grey".')
    assert found.how == "quotes"
    assert words_at(POST, found.runs) == ["All", "is", "grey,"]


def test_clauses_that_are_paraphrased_and_runs_that_are_repeated_are_found():
    found = explained_parts(POST, "The poster feels that nobody from work is calling.")
    assert found.how == "overlap"
    assert " ".join(words_at(POST, found.runs)) == "and nobody at work calls me any more."
    repeated = explained_parts(POST, "He notes the bus was late again and again")
    assert " ".join(words_at(POST, repeated.runs)) == "The bus was late again."
    assert explained_parts(POST, "The poster seems exhausted and without hope.").how == "none"
    assert explained_parts(POST, "").runs == ()


@given(posts)
def test_clauses_make_up_the_post(post):
    words = words_of(post)
    assert [place for start, stop in clauses(words) for place in range(start, stop)] == list(range(len(words)))


@given(posts, posts)
def test_any_text_can_be_an_explanation(post, explanation):
    runs = explained_parts(post, explanation).runs
    assert all(0 <= start < stop <= len(words_of(post)) for start, stop in runs)


@given(posts, st.integers(0, 100))
def test_perturbations_change_what_they_say(post, seed):
    made = {name: change(post, np.random.default_rng(seed)) for name, change in PERTURBATIONS.items()}
    assert made == {name: change(post, np.random.default_rng(seed)) for name, change in PERTURBATIONS.items()}
    assert made["lower_case"] == post.lower()
    assert made["upper_case"] == post.upper()
    assert post.startswith(made["cut_off"])
    if len(post.split()) > 1:
        assert 1 <= len(made["cut_off"].split()) < len(post.split())
    assert made["blank_lines"].split() == post.split()
    assert [word[0] for word in made["typos"].split()] == [word[0] for word in post.split()]
    long = [word for word in re.findall(r"[^\W\d_]+", post) if len(word) >= 4]
    differing = sum(one != other for one, other in zip(made["typos"].split(), post.split(), strict=True))
    assert differing <= max(bool(long), round(0.125 * len(long)))
    pictures = [character for character in made["emoji"] if ord(character) > 0x1F000 and character not in post]
    without_pictures = "".join(character for character in made["emoji"] if character not in pictures)
    assert without_pictures.split() == "".join(character for character in post if character not in pictures).split()


def test_perturbations_of_a_post_are_what_they_are():
    made = {name: change(POST, np.random.default_rng(0)) for name, change in PERTURBATIONS.items()}
    assert made["blank_lines"] == (
        "I can't sleep.\n\nAll is grey, and nobody at work calls me any more.\n\nThe bus was late again."
    )
    assert made["cut_off"] == "I can't sleep. All is grey, and nobody at work calls me any more. The"
    assert made["typos"] != POST
    assert made["emoji"][-1] not in POST


@given(posts, st.sampled_from(["I am a woman.", "Hello."]))
def test_a_prefix_leaves_the_post_whole(post, prefix):
    record = Record("DR/test/1", "DR", post, "yes")
    changed = prefixed(record, prefix)
    assert changed.post == f"{prefix} {post}"
    assert changed.post.endswith(post)
    assert (changed.id, changed.label) == (record.id, record.label)


def test_the_table_of_prefixes_has_every_attribute():
    table = packaged_prefixes()
    assert {"age", "gender", "ethnicity", "faith", "place", "language variety"} <= table.groups.keys()
    sentences = [text for groups in table.groups.values() for texts in groups.values() for text in texts]
    assert len({*sentences, *table.neutral}) == len(sentences) + len(table.neutral)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("neutral: [a]", "expected the keys neutral and groups"),
        ("neutral: [a]\ngroups: {}", "holds no attributes"),
        ("neutral: [a]\ngroups: {age: {old: x}}", "groups.'age' needs two groups"),
        ("neutral: []\ngroups: {age: {old: x, young: y}}", "neutral: expected one sentence"),
        ("neutral: [a]\ngroups: {age: {old: 7, young: y}}", "groups.'age'.'old': expected one sentence"),
        ("neutral: [a, a]\ngroups: {age: {old: x, young: y}}", "neutral: a sentence stands twice"),
        ("neutral: [a\n", "not valid YAML"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as found:
        read_prefixes(path)
    assert str(path) in str(found.value)


def test_a_table_of_ones_own_is_read(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("neutral: It rains.\ngroups: {age: {old: [I am old., I am 80.], young: I am young.}}")
    table = read_prefixes(path)
    assert table.neutral == ("It rains.",)
    assert table.groups["age"]["old"] == ("I am old.", "I am 80.")


def test_every_question_of_the_benchmark_is_reworded():
    table = packaged_rewordings()
    assert set(table) == {task.question for task in TASKS.values()}
    for task in TASKS.values():
        record = Record("x", task.name, POST, task.labels[0], aspect=task.aspects[0] if task.aspects else "")
        for question in table[task.question]:
            changed = reworded(record, question)
            asked = question.format(aspect=record.aspect)
            assert instruction_query(changed) == f'Consider this post: "{POST}" Question: {asked}'
            assert completion_query(changed).endswith(f'Question: The answer to the question "{asked}" is ')
            assert label_answers(changed.task, "plain") == label_answers(task, "plain")
            assert changed.post_id == record.post_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected questions"),
        ('"Who?": ["What?"]', "'Who?' is no question of the benchmark"),
        ('"Does the poster suffer from stress?": "What?"', "expected a list of questions"),
        ('"Does the poster suffer from stress?": ["What {aspect}?"]', "must hold {aspect}"),
        ('"Does the post show risk of {aspect}?": ["What {aspect:>9}?"]', "must hold {aspect}"),
        ('"Does the poster suffer from stress?": ["What {?"]', "'What {?': a brace"),
        (
            '"Does the poster suffer from stress?": [a]\n"Does the poster suffer from depression?": [b, c]',
            "the same number",
        ),
    ],
)
def test_rewordings_that_are_none_are_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_rewordings(path)
