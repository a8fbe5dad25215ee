"""Options, scores and labels that are gone through are no answer; what is declared behind them is one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

SEVERAL = ("SWMH", "T-SID", "SAD", "CAMS", "DR", "IRF")
ENUMERATORS = (("A) ", "B) "), ("A. ", "B. "), ("(a) ", "(b) "), ("A: ", "B: "), ("1. ", "2. "), ("1) ", "2) "))
REMARKS = ("the poster says little of it", "there is a word on it", "this is a thought, at most", "see the second line")


def words_of(name: str) -> list[str]:
    """How labels are called; "none" and the like are left out where they deny what stands beside them."""
    return [TASKS[name].completion_words[label] for label in TASKS[name].labels]


@st.composite
def two_labels(draw: st.DrawFn) -> tuple[str, str, str]:
    name = draw(st.sampled_from(SEVERAL))
    one, two = draw(st.permutations(TASKS[name].labels))[:2]
    return name, one, two


@given(two_labels(), st.sampled_from(ENUMERATORS), st.booleans(), st.sampled_from(["Answer: ", "The answer is "]))
def test_of_listed_options_the_declared_one_counts(drawn, enumerators, second, lead):
    name, *labels = drawn
    task = TASKS[name]
    listed = [
        f"{mark}{task.completion_words[label].capitalize()}" for mark, label in zip(enumerators, labels, strict=True)
    ]
    options, chosen = "\n".join(listed), labels[second]
    mark = enumerators[second].strip(" .):(")
    assert read_label(options, task) is None
    assert read_label(f"{options}\n\n{lead}{mark}", task) in ({chosen} if lead == "Answer: " else {chosen, None})
    assert read_label(f"{options}\n\n{lead}{task.completion_words[chosen]}", task) == chosen
    if ":" not in enumerators[0]:
        assert read_label(f"{options}\n\n{lead}{enumerators[second]}{task.completion_words[chosen]}", task) == chosen


@given(
    two_labels(),
    st.sampled_from([": ", " - ", " — ", " = "]),
    st.sampled_from([".\n", ". ", "; "]),
    st.sampled_from(REMARKS),
    st.sampled_from(["Answer: ", "The answer is ", "Label: "]),
)
def test_of_labels_that_are_gone_through_the_declared_one_counts(drawn, mark, end, remark, lead):
    name, one, two = drawn
    task = TASKS[name]
    parts = [f"{task.completion_words[label].capitalize()}{mark}{remark}{end}" for label in (one, two)]
    for chosen in (one, two):
        text = f"{''.join(parts)}\n{lead}{task.completion_words[chosen]}"
        assert read_label(text, task) == chosen
    assert read_label("".join(parts), task) is None


@given(
    two_labels(),
    st.floats(0, 1, allow_nan=False).map(lambda share: round(share, 3)),
    st.sampled_from(["json", "{}: {}, ", "{} = {}; ", "{}: {}\n", "{} - {}\n", "{} ({:.2f}), "]),
)
def test_scores_are_not_read(drawn, share, pattern):
    name, one, two = drawn
    words = [TASKS[name].completion_words[label] for label in (one, two)]
    scores = dict(zip(words, (share, round(1 - share, 3)), strict=True))
    text = json.dumps(scores) if pattern == "json" else "".join(pattern.format(*each) for each in scores.items())
    assert read_label(text, TASKS[name]) is None


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("DR", '{"yes": false, "no": true}', None),
        ("DR", '{"yes": 0.1}', None),
        ("DR", "Yes: 20%", None),
        ("DR", "Yes: 0.2", None),
        ("DR", "No (35 %)", None),
        ("DR", "Yes: 1/10, No: 9/10", None),
        ("DR", "- Yes: 20\n- No: 80", None),
        ("DR", "Depressed: 0.2, not depressed: 0.8", None),
        ("DR", "Answer: Yes: 20%", None),
        ("SWMH", "Anxiety (0.9)", None),
        ("SWMH", '{"anxiety": 7}', None),
        ("SWMH", '{"predictions":[{"label":"anxiety","score":0.1},{"label":"depression","score":0.9}]}', None),
        ("SWMH", '[{"label":"anxiety","score":0.1},{"label":"depression","score":0.9}]', None),
        ("SWMH", '{"labels":["anxiety","depression"],"scores":[0.1,0.9]}', None),
        ("SWMH", '{"label":"anxiety","score":0.93}', "anxiety"),
        ("SWMH", "Label: anxiety (0.93)", "anxiety"),
        ("DR", "Final answer: Yes (93%)", "yes"),
        ("DR", "Yes (90% confident).", "yes"),
        ("DR", "Yes, 3 of 4 lines are bleak.", "yes"),
        ("DR", "No: 1. They laugh. 2. They dance.", "no"),
        ("DR", "No. 1. They laugh. 2. They dance.", "no"),
        ("DR", "Yes 20% No 80%", "no"),
        ("DR", "(A) Yes, (B) No. Answer: (B)", None),
        ("DR", "B. No, the tone is light.", "no"),
        ("DR", "A: no", "no"),
        ("DR", "Yes - yes, they cry.", "yes"),
        ("SWMH", "Anxiety: the poster checks the door. Nothing else.", "anxiety"),
        ("SWMH", "**Anxiety**: not present\n**Depression**: present", "depression"),
        ("SAD", "Work. The boss yells. School: fine. Family: fine.", "work"),
        ("SWMH", "Options: anxiety, depression, suicide.\nI choose: depression.", "depression"),
    ],
)
def test_lists_scores_and_what_only_resembles_them(name, text, label):
    assert read_label(text, TASKS[name]) == label


@given(two_labels(), st.sampled_from(["The answer is {}.", "Answer: {}", "Final answer: {}", "Label: {}"]))
def test_an_opening_and_a_later_declaration_must_agree(drawn, declaration):
    name, one, two = drawn
    task = TASKS[name]
    for opening in (task.sentences[one], f"{task.completion_words[one]}."):
        for answer in (declaration.format(task.completion_words[two]), task.sentences[two]):
            assert read_label(f"{opening} The week was long.\n{answer}", task) is None
        assert (
            read_label(f"{opening} The week was long.\n{declaration.format(task.completion_words[one])}", task) == one
        )
