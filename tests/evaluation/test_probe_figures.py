"""Figures of probes equal what is computed by hand, for a model whose probabilities are known."""

import itertools
from collections.abc import Callable, Sequence
from math import log

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.counterfactual import Forced, counterfactual, word_overlap
from mentallama_jax.evaluation.probes.fairness import fairness, score_prefixed
from mentallama_jax.evaluation.probes.faithfulness import erase, explained_row, faithfulness
from mentallama_jax.evaluation.probes.kept_scores import KeptScores, content_key
from mentallama_jax.evaluation.probes.label_scores import LabelScores
from mentallama_jax.evaluation.probes.prefix_table import PrefixTable
from mentallama_jax.evaluation.probes.rewordings import packaged_rewordings, reworded
from mentallama_jax.evaluation.probes.robustness import robustness, score_changed
from mentallama_jax.evaluation.probes.sentence_exchange import exchange_of_counts, exchange_of_scores, p_of_exchanges
from mentallama_jax.evaluation.statistics.f1 import Tally, tally, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.statistics.paired_tests import holm
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

INTERVALS = IntervalSettings()
POST = "All is grey and cold today but the bus was late"  # eleven words, "grey" is the third


def scorer_of(p_yes: Callable[[Record], float]) -> Callable[[Sequence[Record]], list[LabelScores]]:
    """A model that gives yes a probability that is a function of the record."""
    return lambda records: [LabelScores({"yes": log(p_yes(each)), "no": log(1 - p_yes(each))}) for each in records]


def row(post: str, text: str, number: int = 1, gold: str = "yes") -> tuple[Record, Prediction]:
    record = Record(f"DR/test/{number}", "DR", post, gold)
    output = Prediction(id=record.id, dataset="DR", post_id=record.post_id, label=gold, generated_text=text)
    return record, output


YES = "Yes, the poster suffers from depression. Reasoning: "


def test_comprehensiveness_and_sufficiency_by_hand():
    rows = [explained_row(*row(POST, f'{YES}They say "all is grey".'))]
    assert (rows[0].label, rows[0].outcome, rows[0].parts.runs) == ("yes", "measured", ((0, 3),))
    scorer = scorer_of(lambda record: 0.9 if "grey" in record.post else 0.4)
    _, erasures = erase(rows, scorer, draws=2000, seed=0)
    scores = faithfulness(rows, erasures, INTERVALS)
    assert scores.p.value == pytest.approx(0.9)
    assert scores.comprehensiveness.value == pytest.approx(0.5)  # 0.9 less 0.4 without "All is grey"
    assert scores.sufficiency.value == pytest.approx(0.0)  # 0.9 with "All is grey" alone
    # Three words can begin at nine places, and hold the third word from three of them.
    assert scores.random_comprehensiveness.value == pytest.approx(0.5 * 3 / 9, abs=0.02)
    assert scores.random_sufficiency.value == pytest.approx(0.5 * 6 / 9, abs=0.02)
    assert scores.comprehensiveness_difference.value == pytest.approx(0.5 - 0.5 * 3 / 9, abs=0.02)
    assert scores.sufficiency_difference.value == pytest.approx(-0.5 * 6 / 9, abs=0.02)
    assert scores.share_of_words.value == pytest.approx(3 / 11)
    assert (scores.label_agrees.value, scores.by_quotes, scores.posts) == (1.0, 1, 1)


def test_what_a_reasoning_trace_quotes_is_no_explanation():
    trace = '<think>They say "bus was late"; the answer may be no.</think>'
    traced = explained_row(*row(POST, f'{trace}{YES}They say "all is grey".'))
    assert (traced.explanation, traced.parts.runs) == ('They say "all is grey".', ((0, 3),))
    assert explained_row(*row(POST, f"{trace}yes.")).outcome == "without_explanation"


def test_the_probability_is_that_of_the_stated_label_whatever_is_likeliest():
    rows = [explained_row(*row(POST, 'No, the poster does not suffer from depression. Reasoning: "all is grey".'))]
    scorer = scorer_of(lambda record: 0.9 if "grey" in record.post else 0.4)
    _, erasures = erase(rows, scorer, draws=1, seed=0)
    scores = faithfulness(rows, erasures, INTERVALS)
    assert scores.p.value == pytest.approx(0.1)
    assert scores.comprehensiveness.value == pytest.approx(0.1 - 0.6)
    assert scores.label_agrees.value == 0.0


def test_where_every_word_counts_alike_explained_parts_are_no_better_than_random_ones():
    rows = [
        explained_row(*row(f"{POST} {number}", f'{YES}"all is grey" and "bus was late".', number))
        for number in range(30)
    ]
    scorer = scorer_of(lambda record: 0.05 + 0.05 * len(record.post.split()))
    _, erasures = erase(rows, scorer, draws=3, seed=0)
    scores = faithfulness(rows, erasures, INTERVALS)
    assert scores.comprehensiveness.value == pytest.approx(0.05 * 6)
    assert scores.comprehensiveness_difference.value == pytest.approx(0.0)
    assert scores.sufficiency_difference.value == pytest.approx(0.0)
    assert scores.sufficiency_difference.interval[0] < 0 < scores.sufficiency_difference.interval[1]


def test_rows_that_cannot_be_measured_are_counted():
    texts = {
        "unparsed": "Who knows.",
        "without_explanation": "Yes, the poster suffers from depression.",
        "without_parts": f"{YES}They seem tired.",
        "whole_post": f'{YES}"{POST}".',
        "measured": f'{YES}"all is grey".',
    }
    rows = [explained_row(*row(POST, text, number)) for number, text in enumerate(texts.values())]
    assert [each.outcome for each in rows] == list(texts)
    asked: list[Record] = []

    def scorer(records: Sequence[Record]) -> list[LabelScores]:
        asked.extend(records)
        return scorer_of(lambda record: 0.7)(records)

    whole, erasures = erase(rows, scorer, draws=2, seed=0)
    assert len(asked) == 1 + 1 + 7
    assert list(whole) == ["DR/test/2", "DR/test/3", "DR/test/4"]
    scores = faithfulness(rows, erasures, INTERVALS)
    assert (scores.rows, scores.measured) == (5, 1)
    assert [getattr(scores, name) for name in texts] == [1] * 5
    nothing = faithfulness(rows[:4], erasures, INTERVALS)
    assert (nothing.measured, nothing.comprehensiveness, nothing.warning) == (0, None, None)


def test_random_parts_depend_on_the_seed_and_the_row_alone():
    rows = [explained_row(*row(POST, f'{YES}"all is grey".', number)) for number in range(3)]
    scorer = scorer_of(lambda record: 0.9 if "late" in record.post else 0.3)
    _, found = erase(rows, scorer, draws=3, seed=1)
    _, backwards = erase(rows[::-1], scorer, draws=3, seed=1)
    assert found == backwards
    assert found != erase(rows, scorer, draws=3, seed=2)[1]


def test_explanations_that_follow_the_forced_label_are_counted():
    own = explained_row(*row(POST, f"{YES}The poster is likely suffering from depression."))
    texts = [
        "The poster shows no signs of depression and sees the bus.",
        "The poster is likely suffering from depression.",
        "The bus was late.",
        "",
    ]
    scores = counterfactual([Forced(own, "no", text) for text in texts], INTERVALS)
    assert (scores.rows, scores.posts, scores.empty) == (4, 1, 1)
    assert (scores.states_forced, scores.states_original, scores.states_another, scores.states_none) == (1, 1, 0, 2)
    assert (scores.follows.value, scores.follows_where_stated.value) == (0.25, 0.5)
    assert scores.original_states_own.value == 1.0
    assert counterfactual([], INTERVALS).follows is None


def test_the_overlap_of_two_explanations_by_hand():
    assert word_overlap("Grey days, grey nights.", "The days are grey.") == pytest.approx(2 * 2 / (4 + 2))
    assert word_overlap("Grey.", "Blue.") == word_overlap("", "Blue.") == 0.0


TABLE = PrefixTable(
    ("I post this.", "I write this."),
    {
        "gender": {"woman": ("I am a woman.",), "man": ("I am a man.",)},
        "age": {"old": ("Old.", "So old."), "young": ("Young.",)},
    },
)


def prefixed_rows(p_yes: Callable[[Record], float], number: int = 12):
    records = [Record(f"DR/test/{each}", "DR", f"Post {each}", "yes") for each in range(number)]
    return score_prefixed(records, TABLE, scorer_of(p_yes))


def test_a_group_whose_prefix_flips_all_labels_is_found():
    scores = fairness(prefixed_rows(lambda record: 0.4 if "woman" in record.post else 0.6), INTERVALS)
    woman, man, old = scores.groups["gender"]["woman"], scores.groups["gender"]["man"], scores.groups["age"]["old"]
    assert (scores.rows, scores.posts, scores.yes_no_rows, old.sentences) == (12, 12, 12, 2)
    assert scores.noise_floor.value == 0.0
    assert scores.neutral == pytest.approx({"weighted_f1": 1.0, "p_gold": 0.6, "p_yes": 0.6})
    assert (woman.flip_rate.value, woman.flip_rate.difference, man.flip_rate.value) == (1.0, 1.0, 0.0)
    assert (woman.weighted_f1.value, woman.weighted_f1.difference, man.weighted_f1.difference) == (0.0, -1.0, 0.0)
    assert woman.p_gold.difference == pytest.approx(-0.2)
    # One of three sentences is chosen in each of twelve posts: one way of 3^12 is as far out. Four groups are tested.
    assert woman.flip_rate.p == pytest.approx(0.0001, abs=0.0001)
    assert woman.flip_rate.p_holm == pytest.approx(4 * woman.flip_rate.p)
    assert (man.flip_rate.p, man.flip_rate.p_holm) == (1.0, 1.0)
    gap = scores.gaps["gender"]["p_yes"]
    assert (gap.highest, gap.lowest) == ("man", "woman")
    assert gap.difference == pytest.approx(0.2)
    assert scores.gaps["age"]["p_yes"].difference == pytest.approx(0.0)
    assert gap.p_holm == pytest.approx(2 * gap.p)  # one pair each, two attributes


def test_what_neutral_sentences_change_is_the_noise_floor():
    def p_yes(record: Record) -> float:
        return 0.4 if "write" in record.post or "Young." in record.post else 0.6

    scores = fairness(prefixed_rows(p_yes), INTERVALS)
    assert scores.noise_floor.value == 0.5
    young, old = scores.groups["age"]["young"].flip_rate, scores.groups["age"]["old"].flip_rate
    assert (young.value, young.difference, old.value, old.difference) == (1.0, 0.5, 0.0, -0.5)
    half = scores.groups["age"]["young"].weighted_f1
    assert scores.neutral["weighted_f1"] == pytest.approx(2 / 3)  # half of the gold is found: 2 * 6 / (6 + 12)
    assert half.difference == pytest.approx(-2 / 3)


def test_the_mean_over_the_sentences_of_a_group_counts():
    scores = fairness(prefixed_rows(lambda record: 0.4 if "So old." in record.post else 0.6), INTERVALS)
    old = scores.groups["age"]["old"]
    assert (old.flip_rate.value, old.p_yes.value) == pytest.approx((0.5, 0.5))


def test_rows_without_the_labels_yes_and_no_have_no_p_of_yes():
    records = [Record("SAD/test/1", "SAD", "Work is hard.", "work")]

    def scorer(asked: Sequence[Record]) -> list[LabelScores]:
        return [LabelScores({label: -1.0 - (label != "work") for label in TASKS["SAD"].labels}) for _ in asked]

    scores = fairness(score_prefixed(records, TABLE, scorer), INTERVALS)
    assert scores.yes_no_rows == 0
    assert scores.groups["gender"]["woman"].p_yes is None
    assert "p_yes" not in scores.gaps["gender"]
    assert scores.without_prefix["p_yes"] is None


def test_changes_that_flip_labels_are_found_and_equal_texts_are_counted():
    posts = ["all is grey. and cold.", "My bus was late"]
    records = [Record(f"DR/test/{number}", "DR", post, "yes") for number, post in enumerate(posts)]
    scorer = scorer_of(lambda record: 0.2 if record.post.isupper() or "author" in record.task.question else 0.7)
    scores = robustness(score_changed(records, packaged_rewordings(), scorer, seed=0), INTERVALS)
    upper, lower, lines = (scores.variants[name] for name in ("upper_case", "lower_case", "blank_lines"))
    assert (upper.rows, upper.unchanged, upper.flip_rate.value) == (2, 0, 1.0)
    assert upper.p_change.value == pytest.approx(-0.5)
    assert (upper.weighted_f1_before, upper.weighted_f1, upper.f1_change.value) == (1.0, 0.0, -1.0)
    assert (lower.rows, lower.unchanged, lower.flip_rate.value) == (1, 1, 0.0)
    assert (lines.rows, lines.unchanged) == (1, 1)
    assert (scores.variants["reworded_1"].flip_rate.value, scores.variants["reworded_2"].flip_rate.value) == (0.0, 1.0)
    only = robustness(score_changed(records[1:], packaged_rewordings(), scorer, seed=0), INTERVALS)
    assert only.variants["blank_lines"].flip_rate is None


def test_p_is_that_of_all_ways_to_deal_out_the_sentences():
    source = np.random.default_rng(3)
    first, second = [source.normal(0.8, 1, 6)], [source.normal(0, 1, 6), source.normal(0, 1, 6)]
    sentences = np.array([*first, *second])

    def difference(sides: Sequence[int]) -> float:
        played = sum(sentences[side, post] for post, side in enumerate(sides))
        return abs(played - (sentences.sum() - played) / 2)

    exact = np.mean(
        [difference(sides) >= difference([0] * 6) - 1e-9 for sides in itertools.product(range(3), repeat=6)]
    )
    backwards = exchange_of_scores(second, first)
    p, of_nothing, p_backwards = p_of_exchanges(
        [exchange_of_scores(first, second), exchange_of_scores([second[0]], [second[0]] * 2), backwards], seed=0
    )
    assert p == pytest.approx(exact, abs=0.015)
    assert p_of_exchanges([exchange_of_scores(first, second)], seed=0) == [p]
    assert p_backwards == pytest.approx(exact, abs=0.015)
    assert of_nothing == 1.0


def test_p_of_f1_is_that_of_all_swaps():
    gold, posts = ["yes", "no", "yes", "no", "yes", "yes"], list("abcdef")
    one, other = ["yes", "no", "yes", "no", "yes", "no"], ["no", "no", "no", "yes", "yes", "no"]

    def counts_of(predicted: list[str]) -> Tally:
        return tally(gold, predicted, posts, ["no", "yes"])

    def difference(swaps: Sequence[int]) -> float:
        pairs = [(b, a) if swap else (a, b) for a, b, swap in zip(one, other, swaps, strict=True)]
        first, second = (float(weighted_f1(counts_of(list(side)).total())) for side in zip(*pairs, strict=True))
        return abs(first - second)

    exact = np.mean([difference(swaps) >= difference([0] * 6) - 1e-9 for swaps in itertools.product((0, 1), repeat=6)])
    exchanges = [exchange_of_counts([counts_of(one)], [counts_of(each)], weighted_f1) for each in (other, one)]
    p, of_nothing = p_of_exchanges(exchanges, seed=0)
    assert p == pytest.approx(exact, abs=0.02)
    assert of_nothing == 1.0


def test_sentences_that_say_nothing_are_seldom_found_to_matter():
    source = np.random.default_rng(0)
    groups, false_alarms = 10, 0
    for seed in range(60):
        tendency = source.beta(0.4, 3.6, 50)  # posts that flip easily, and posts that never do
        flips = (source.random((4 + groups, 50)) < tendency).astype(float)
        ps = p_of_exchanges([exchange_of_scores([flips[4 + each]], list(flips[:4])) for each in range(groups)], seed)
        false_alarms += min(holm(ps)) < 0.05
    assert false_alarms <= 7  # 3 are expected; more than 7 come up once in 100 times


def test_probabilities_are_the_softmax_of_the_sums():
    scores = LabelScores({"a": -700.0, "b": -700.0 + log(3), "c": -1e9})
    assert scores.probabilities == pytest.approx({"a": 0.25, "b": 0.75, "c": 0.0})
    assert (scores.predicted, scores.runner_up("b"), scores.runner_up("a")) == ("b", "a", "b")


def test_kept_scores_survive_a_cut_line_and_nothing_else(tmp_path):
    path = tmp_path / "kept.jsonl"
    with KeptScores(path) as kept:
        kept.add({"a": LabelScores({"yes": -1.25, "no": -2.0}, 3)})
        with pytest.raises(UserError, match="another probe is writing it"), KeptScores(path):
            pass
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "b", "su')
    with KeptScores(path) as kept:
        assert "b" not in kept
        assert kept["a"] == LabelScores({"yes": -1.25, "no": -2.0}, 3)
        kept.add({"b": LabelScores({"yes": -1.0, "no": -2.0})})
    assert path.read_bytes().startswith(whole)
    for damaged in (b"[]\n", b'{"key": "a"}\n', b'{"key": "a", "sums": {"yes": "x"}, "truncated": 0}\n', b"{\n"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"kept\.jsonl, line 1"), KeptScores(path):
            pass


def test_the_key_of_a_score_is_of_all_that_decides_it():
    record = Record("IRF/test/1", "IRF", "Post", "yes", aspect="thwarted belongingness")
    others = [
        Record("IRF/test/1", "IRF", "Post.", "yes", aspect="thwarted belongingness"),
        Record("IRF/test/1", "IRF", "Post", "yes", aspect="perceived burdensomeness"),
        Record("IRF/test/1", "DR", "Post", "yes"),
        reworded(record, "Is there a risk of {aspect}?"),
    ]
    keys = {content_key("model", each) for each in (record, *others)} | {content_key("another", record)}
    assert len(keys) == 6
    assert content_key("model", Record("x", "IRF", "Post", "no", aspect=record.aspect)) in keys
