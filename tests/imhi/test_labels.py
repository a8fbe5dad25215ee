"""Reading labels from outputs; every sentence here was written for the tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.labels import contradicts, read_label
from mentallama_jax.imhi.labels.upstream import upstream_label
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, Task

YES_NO = ("DR", "CLP", "dreaddit", "loneliness", "MultiWD", "IRF")
NAMED = ("SWMH", "T-SID", "SAD", "CAMS")
EVERY_LABEL = [(task.name, label) for task in TASKS.values() for label in task.labels]

# Words that no rule should take for an answer, several with a label or a cue inside.
NO_ANSWER = """
    yesterday know another nothing northern notes eyes noon knowing bypass the a my homework workshop networks schooling
    unfamiliar antisocial healthy stressless relation cat walked slowly,
"""
FILLER = st.lists(st.sampled_from(NO_ANSWER.split()), max_size=12).map(" ".join)


def wordings(task: Task, label: str) -> list[str]:
    return [task.sentences[label], f"{task.completion_words[label]}."]


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
@pytest.mark.parametrize("reasoning", ["", " Reasoning: The writer tells of a long week.", "\n\nBecause of the tone."])
def test_both_released_formats_are_read(name, label, reasoning):
    task = TASKS[name]
    for wording in wordings(task, label):
        assert read_label(wording + reasoning, task) == label


@given(
    st.sampled_from(EVERY_LABEL),
    FILLER,
    st.sampled_from(["", "\n\n", " ", "Answer: ", "\nAnswer:\n", "**", "- ", "Label: "]),
)
def test_a_label_is_read_whatever_reasoning_follows(labelled, reasoning, lead):
    name, label = labelled
    for wording in wordings(TASKS[name], label):
        assert read_label(f"{lead}{wording} Reasoning: {reasoning}", TASKS[name]) == label


@given(st.sampled_from(EVERY_LABEL), FILLER)
def test_a_label_sentence_may_follow_the_reasoning(labelled, reasoning):
    name, label = labelled
    assert read_label(f"Reasoning: {reasoning}. {TASKS[name].sentences[label]}", TASKS[name]) == label
    assert read_label(f"Reasoning: {reasoning}.\nAnswer: {TASKS[name].completion_words[label]}", TASKS[name]) == label


@given(st.sampled_from(EVERY_LABEL), st.randoms(use_true_random=False))
def test_case_and_white_space_do_not_matter(labelled, random):
    name, label = labelled
    for wording in wordings(TASKS[name], label):
        loose = "".join(random.choice((char.lower(), char.upper())) for char in wording)
        loose = "".join(random.choice((" ", "  ", "\t")) if char == " " else char for char in loose)
        assert read_label(f"  {loose}  ", TASKS[name]) == label


@given(st.sampled_from(sorted(TASKS)), FILLER)
def test_words_that_only_hold_a_label_are_not_one(name, text):
    assert read_label(text, TASKS[name]) is None
    assert read_label(f"Reasoning: {text}", TASKS[name]) is None


@given(st.sampled_from(sorted(TASKS)), st.text())
def test_any_text_is_read_without_error_to_a_label_or_none(name, text):
    assert read_label(text, TASKS[name]) in {*TASKS[name].labels, None}


@given(st.sampled_from(sorted(TASKS)), st.text(), st.text())
def test_a_run_on_question_does_not_count(name, post, answer):
    task = TASKS[name]
    for label in task.labels:
        run_on = (
            f'{task.sentences[label]} Reasoning: So.\n\nConsider this post: "{post}" Question: {task.question} {answer}'
        )
        assert read_label(run_on, task) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("-Yes", "yes"),
        ("Yes --- the tone is dark", "yes"),
        ("**No.**", "no"),
        ('"No"', "no"),
        ("A: No", "no"),
        ("Answer:\n\nYes, clearly.", "yes"),
        ("The answer is yes.", "yes"),
        ("The short answer would be no, because the week went well.", "no"),
        ('The answer to the question "Does the poster suffers from depression?" is no.', "no"),
        ("Reasoning: The mood is fine throughout. Final answer: No", "no"),
        ('Reasoning: The mood is fine, so the label "No" is right. The label of "No" is fitting here.', "no"),
        ("Reasoning: all is bleak.\n\nYes.", "yes"),
        ("I would say yes, on balance.", "yes"),
        ("Yes the poster is low.", "yes"),
        ("Reasoning: No. The tone is light.", "no"),
        ("B. No, the tone is light.", "no"),
        ("This shows signs of depression.", "yes"),
        ("The given post does not show signs of depression.", "no"),
        ("Question: Does the poster suffer from depression? Yes.", "yes"),
        ("The poster is depressed.", "yes"),
        ("The poster isn't depressed.", "no"),
        ("The poster is not depressed.", "no"),
        ("The poster seems to be suffering from depression.", "yes"),
        ("Overall, the tone suggests that the poster is likely suffering from depression.", "yes"),
        ("the poster suffer from depression", "yes"),
        ("The poster doesn’t suffer from depression", "no"),
        ("The poster does not appear to suffer from depression, as far as this goes.", "no"),
        ("The post shows clear signs of depression.", "yes"),
        ("The post exhibits several symptoms of depression", "yes"),
        ("The post shows no signs of depression.", "no"),
        ("The post does not show any signs of depression.", "no"),
        ("There are no signs of depression here.", "no"),
        ("No signs of depression.", "no"),
        ("There is no indication that the poster is suffering from depression.", "no"),
        ("There is no indication, in any line, that the poster is suffering from depression.", "no"),
        ("Nothing here is sad. Therefore it is unlikely that the poster suffers from depression.", "no"),
        ("The post does not suggest that the poster is depressed.", "no"),
        ("It is not the case that the poster suffers from depression.", "no"),
        ("I do not think the poster suffers from depression.", "no"),
        ("The poster no longer suffers from depression.", "no"),
        ("The lack of sleep and help suggests that the poster is suffering from depression.", "yes"),
        ("There is a lack of evidence that the poster suffers from depression.", "no"),
        ("There is no doubt that the poster suffers from depression.", "yes"),
        ("Without a doubt the poster is depressed.", "yes"),
        ("The poster not only suffers from depression but also from bad sleep.", "yes"),
        ("The poster, however, suffers from depression.", "yes"),
        ("While the job is hard, the poster does not suffer from depression.", "no"),
        ("The poster suffers from severe depression.", "yes"),
        ("So far so bad. Overall, the poster is depressed.", "yes"),
        ("The post shows signs of depression. Overall, the poster does not suffer from depression.", "no"),
    ],
)
def test_stated_answers_are_read(text, label):
    assert read_label(text, TASKS["DR"]) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "Reasoning:",
        "It is not clear whether the poster suffers from depression.",
        "It is not clear that the poster suffers from depression.",
        "It is unclear if the poster is depressed.",
        "There is not enough information to say that the poster suffers from depression.",
        "The poster may be suffering from depression.",
        "The poster could possibly be depressed.",
        "If the poster is depressed, help is near.",
        "Does the poster suffer from depression?",
        "This does not necessarily mean that the poster suffers from depression.",
        "The poster's brother suffers from depression.",
        "A friend of the poster is depressed.",
        "The poster says that the poster is depressed.",
        "The poster does not suffer from severe depression.",
        "The post does not exhibit strong indicators of very severe depression.",
        "Low mood and bad sleep are common symptoms of depression.",
        "These feelings align with symptoms commonly associated with depression.",
        "The poster gives advice to people with depression.",
        "The poster shows an understanding of depression.",
        "The poster helps a friend with depression.",
        "Yes and no.",
        "yes/no",
        "Yes or no?",
        "Yes, the poster does not suffer from depression.",
        "No, the poster suffers from depression.",
        "Yes, it is not clear.",
        "No one knows the poster.",
        "No poster is alike.",
        "Not sure.",
        "Nobody at work talks to the poster.",
        "The poster is depressed. The poster is not depressed.",
        'They wrote "yes, I am depressed" in the post.',
        "The post mentions depression.",
        "The post does not give sufficient evidence to suggest that the poster is depressed.",
        "More of this would indicate that the poster is depressed.",
        "The poster suffers from depression is not supported by the text.",
        "It is not the case that the poster is not depressed.",
        "No. 1 on the list is sleep.",
        "I know yesterday was another northern noon.",
        'Consider this post: "I am low" Question: Does the poster suffer from depression? Yes.',
    ],
)
def test_what_states_no_answer_is_unparsed(text):
    assert read_label(text, TASKS["DR"]) is None


@pytest.mark.parametrize("name", ["DR", "dreaddit", "loneliness"])
def test_denial_flips_what_is_affirmed(name):
    task = TASKS[name]
    condition = task.question.removeprefix("Does the poster suffer from ").removesuffix("?")
    for affirmed, denied in (
        ("The poster is suffering from {}.", "The poster is not suffering from {}."),
        ("There are signs of {}.", "There are no signs of {}."),
        (
            "The text indicates that the poster suffers from {}.",
            "The text does not indicate that the poster suffers from {}.",
        ),
    ):
        assert read_label(affirmed.format(condition), task) == "yes"
        assert read_label(denied.format(condition), task) == "no"


def test_another_condition_is_not_the_one_asked_about():
    assert read_label("The poster suffers from anxiety.", TASKS["DR"]) is None
    assert read_label("The poster suffers from depression.", TASKS["dreaddit"]) is None
    assert (
        read_label("The post describes stress relief. The poster shows stress management skills.", TASKS["dreaddit"])
        is None
    )
    assert read_label("The poster is under a lot of stress.", TASKS["dreaddit"]) == "yes"
    assert read_label("There is no indication of ongoing stress.", TASKS["dreaddit"]) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("This wellness dimension does not exist in the post.", "no"),
        ("The social wellness dimension exists in the post.", "yes"),
        ("Reasoning: Friends are named. Therefore, the social wellness dimension is present.", "yes"),
        ("The social dimension is absent.", "no"),
        ("The wellness dimension of social aspect exists in the post.", "yes"),
        ("The wellness dimension of the physical aspect exists in the post.", None),
        ("The post does not demonstrate the presence of the social aspect of wellness.", "no"),
        ("The post does not address the social wellness dimension.", "no"),
        ("There is no social dimension in this text.", "no"),
        ("The emotional wellness dimension exists in the post.", None),
        ("The post touches on the physical dimension, but not on others.", None),
        ("The post is about social wellness apps.", None),
    ],
)
def test_wellness_dimensions(text, label):
    assert read_label(text, TASKS["MultiWD"], "social") == label


def test_without_an_aspect_any_dimension_is_the_one():
    assert read_label("The emotional wellness dimension exists in the post.", TASKS["MultiWD"]) == "yes"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The post shows this risk.", "yes"),
        ("The post does not show any risk of thwarted belongingness.", "no"),
        ("The poster is at risk of thwarted belongingness.", "yes"),
        ("There is no indication of thwarted belongingness.", "no"),
        ("There is no risk of thwarted belongingness here.", "no"),
        ("The post shows risk of perceived burdensomeness.", None),
        ("The post shows risk factors.", None),
        ("This may be a risk.", None),
    ],
)
def test_risks(text, label):
    assert read_label(text, TASKS["IRF"], "thwarted belongingness") == label


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("SAD", "Work. Reasoning: the shift was long", "work"),
        ("SAD", "The stress cause of this post is school.", "school"),
        ("SAD", "This post shows the stress cause of family issues.", "family issues"),
        ("SAD", "This post shows the stress cause related to work, as school is over.", "work"),
        ("SAD", "Reasoning: The shift was long, suggesting that work is the primary cause of their stress.", "work"),
        ("SAD", "This post shows the stress cause related to work and family issues.", None),
        ("SAD", "work, school", None),
        (
            "SAD",
            "A) School\nB) Work\n\nReasoning: Exams are near. The appropriate label for this post is A) School.",
            "school",
        ),
        ("SAD", "A) School\nB) Work\n\nReasoning: Exams are near.", None),
        ("SAD", "The text is about a class, making school the most appropriate label.", "school"),
        ("SAD", "Reasoning: A class was missed. This falls under the category of school as a stress cause.", "school"),
        ("SAD", "This tells of a sick cat and a worried family. It goes on at length.", None),
        ("SAD", "It could be work.", None),
        ("SAD", "The text names both work and family as sources of stress, at length. It ends there.", None),
        ("SAD", "While it may seem that the label would be school, the true label in this case is work.", "work"),
        ("SAD", "It is not about work.", None),
        ("SAD", "The homework took long.", None),
        ("SAD", "Their mental health is poor.", None),
        ("SAD", "Health issues.", "health issues"),
        ("SAD", "The stress is caused by financial problems", "financial problem"),
        ("SAD", "Homework is the main cause of stress.", None),
        ("SAD", "Reasoning: at work and at school and with family, all is well.", None),
        ("CAMS", "none", "none"),
        ("CAMS", "The post does not show any causes of depression.", "none"),
        ("CAMS", "There is no cause of depression in this post.", "none"),
        ("CAMS", "The cause of depression is medication.", "medication"),
        ("CAMS", "The causes of depression in this post are jobs and career.", "jobs and career"),
        ("CAMS", "alienation or relationship", None),
        ("CAMS", "Nonetheless.", None),
        ("T-SID", "PTSD", "ptsd"),
        ("T-SID", "This post shows post-traumatic stress disorder.", "ptsd"),
        ("T-SID", "The poster does not show any mental disorder.", "no mental disorders"),
        ("T-SID", "No, this post shows no mental disorders.", "no mental disorders"),
        ("T-SID", "The poster shows symptoms of depression.", "depression"),
        ("T-SID", "This post does not show depression.", None),
        ("T-SID", "This post shows depression and PTSD.", None),
        ("T-SID", "self-harm", "suicide or self-harm tendency"),
        ("SWMH", "Mental disorder symptoms related to anxiety.", "anxiety"),
        ("SWMH", "This post shows mental disorder symptoms related to bipolar.", "bipolar disorder"),
        ("SWMH", "There are no signs of any mental disorder.", "no mental disorders"),
        ("SWMH", "The poster suffers from a mental disorder.", None),
        ("SWMH", "What mental disorder symptoms does this post show?", None),
    ],
)
def test_label_names(name, text, label):
    assert read_label(text, TASKS[name]) == label


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("DR", "I know Reasoning: Yes", "no"),
        ("DR", "Yesterday", "yes"),
        ("DR", "Reasoning: Yes, the poster suffers from depression.", "no"),
        ("SAD", "homework", "work"),
        ("SAD", "This post shows the stress cause related to emotion turmoil.", "other causes"),
        ("SAD", "work at school", "school"),
        ("CAMS", "This post shows no causes of depression.", "none"),
        ("T-SID", "no mental disorders like depression", "depression"),
        ("SWMH", "no mental disorders like depression", "no mental disorders"),
        ("SWMH", "", "no mental disorders"),
        ("T-SID", "", "no mental disorders"),
        ("SAD", "", "other causes"),
        ("CAMS", "", "none"),
        ("MultiWD", "", "no"),
    ],
)
def test_the_released_rule_is_reproduced_with_its_mistakes(name, text, label):
    assert upstream_label(text, TASKS[name]) == label


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_the_released_rule_reads_its_own_instruction_format_but_for_emotion_turmoil(name, label):
    read = upstream_label(TASKS[name].sentences[label], TASKS[name])
    assert read == ("other causes" if label == "emotional turmoil" else label)


def test_gold_of_a_record_reads_as_its_label():
    record = Record(id="a", dataset="IRF", post="p", label="no", aspect="perceived burdensomeness")
    assert read_label(record.task.sentences[record.label], record.task, record.aspect) == "no"


@pytest.mark.parametrize(
    ("name", "aspect", "label", "explanation", "contradiction"),
    [
        ("DR", "", "yes", "The tone is light. Overall, the poster does not suffer from depression.", True),
        ("DR", "", "no", "The tone is light. Overall, the poster does not suffer from depression.", False),
        ("DR", "", "no", "The post shows clear signs of depression.", True),
        ("DR", "", "yes", "The post shows clear signs of depression.", False),
        ("DR", "", "no", "The poster tells of a long week and little sleep.", False),
        ("DR", "", "no", "It is not clear whether the poster suffers from depression.", False),
        ("DR", "", "yes", "", False),
        ("MultiWD", "social", "no", "Friends are named. The social wellness dimension exists in the post.", True),
        ("MultiWD", "social", "no", "The emotional wellness dimension exists in the post.", False),
        ("SAD", "", "school", "The shift was long, so the stress cause of this post is work.", True),
        ("SAD", "", "work", "The shift was long, so the stress cause of this post is work.", False),
    ],
)
def test_an_explanation_that_states_another_label_contradicts_it(name, aspect, label, explanation, contradiction):
    assert contradicts(label, explanation, TASKS[name], aspect) is contradiction
