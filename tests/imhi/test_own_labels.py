"""Labels of tasks of one's own are read by their sentences and aliases alone, in any language; never a wrong one."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.class_inputs import without_label_sentences
from mentallama_jax.imhi.labels import contradicts, read_label
from mentallama_jax.imhi.labels.gold_response import explanation_in, read_gold
from mentallama_jax.imhi.task_files.plain_text import even, sentences_of
from mentallama_jax.imhi.task_files.task import Task
from mentallama_jax.imhi.task_files.task_reading import parse_task

FILES = {
    "de": """
name: schlaf
language: de
question: Wie schläft die Person?
answer_leads: [Antwort, Die Antwort ist, Fazit]
labels:
  gut: {sentence: Die Person schläft gut.}
  nicht ein:
    sentence: Die Person kann abends nicht einschlafen.
    aliases: [Einschlafstörung]
  nicht durch:
    sentence: 'Die Person wacht nachts auf, heißt es.'
    aliases: [Durchschlafstörung]
""",
    "zh": """
name: xinqing
language: zh
question: 帖子里的{aspect}有问题吗？
aspects: [食欲, 精力]
answer_leads: [答案, 答案是]
labels:
  yes: {sentence: 是的，帖子里有这个问题。, completion: 有, aliases: [是]}
  no: {sentence: 不，帖子里没有这个问题。, completion: 没有, aliases: [不, 否]}
""",
    "hi": """
name: neend
language: hi
question: क्या व्यक्ति को नींद की समस्या है?
answer_leads: [उत्तर]
labels:
  yes: {sentence: 'हाँ, व्यक्ति को नींद की समस्या है।', completion: हाँ}
  no: {sentence: 'नहीं, व्यक्ति को नींद की समस्या नहीं है।', completion: नहीं}
""",
    "el": """
name: ypnos
language: el
question: Κοιμάται καλά το άτομο;
answer_leads: [Απάντηση]
labels:
  yes: {sentence: 'Ναι, το άτομο κοιμάται καλά.', completion: ναι}
  no: {sentence: 'Όχι, το άτομο δεν κοιμάται καλά.', completion: όχι}
""",
    "ar": """
name: nawm
language: ar
question: هل ينام الشخص جيدًا؟
labels:
  yes: {sentence: 'نعم، ينام الشخص جيدًا.', completion: نعم}
  no: {sentence: 'لا، لا ينام الشخص جيدًا.', completion: لا}
""",
    "en": """
name: sleep
language: en
question: How does the poster sleep?
labels:
  sleeps well: {sentence: The poster sleeps well., aliases: [good sleeper]}
  no sleep: {sentence: The poster can't sleep.}
  wakes up: {sentence: The poster wakes up at night., aliases: [broken sleep]}
""",
    "en-GB": """
name: nightmares
language: en-GB
question: Does the poster have nightmares?
labels:
  yes: {sentence: 'Yes, the poster has nightmares.', aliases: [has nightmares]}
  no: {sentence: 'No, the poster has no nightmares.', aliases: [sleeps calmly]}
""",
}
TASKS = {language: parse_task(text.encode(), language) for language, text in FILES.items()}
EVERY = [(language, label) for language, task in TASKS.items() for label in task.labels]


def wordings(task: Task, label: str) -> list[str]:
    return [task.sentences[label], task.completion_words[label], label, *task.label_aliases.get(label, ())]


@pytest.mark.parametrize(("language", "label"), EVERY)
def test_every_wording_is_read_however_it_is_wrapped(language: str, label: str) -> None:
    task = TASKS[language]
    for wording in wordings(task, label):
        bare = wording.rstrip(".。।")
        for text in (
            wording,
            bare,
            f"{bare}. Reasoning: so",
            f"**{bare}**\n",
            f"  {bare.upper()} \n",
            f'"{bare}"',
            f"<think>???</think>{wording}",
            f"\\boxed{{{bare}}}",
            f'{{"label": "{bare}"}}',
            f"Final answer: {bare}",
            *(f"{lead}: {bare}" for lead in task.answer_leads),
            *(f"{lead}:\n{bare}" for lead in task.answer_leads),
        ):
            assert read_label(text, task) == label, text


@pytest.mark.parametrize(("language", "label"), EVERY)
def test_a_gold_response_is_taken_apart(language: str, label: str) -> None:
    task = TASKS[language]
    sentence = task.sentences[label]
    assert read_gold(f"{sentence} Reasoning: ...ß, 因为", task) == (label, "...ß, 因为")
    assert read_gold(f"{sentence} ß, 因为", task) == (label, "ß, 因为")
    assert explanation_in(f"{sentence} ß", task) == "ß"
    assert without_label_sentences(f"ß {sentence} ü", task) == "ß ü"
    assert not contradicts(label, "ß", task)


@pytest.mark.parametrize("language", TASKS)
def test_several_labels_are_none(language: str) -> None:
    task = TASKS[language]
    one, two = list(task.sentences.values())[:2]
    assert read_label(f"{one}\n{two}", task) is None
    assert read_label("", task) is None
    assert read_label("<think>" + one, task) is None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Die Person schläft nicht gut."),
        ("de", "Ich glaube nicht, dass die Person gut schläft."),
        ("de", "Die Person schläft gut, sagt niemand."),
        ("de", "Es stimmt nicht: Die Person schläft gut."),
        ("de", "Falsch wäre:\nDie Person schläft gut."),
        ("de", "Schläft die Person gut?"),
        ("de", "Die Person schläft gut?"),
        ("de", "Die Freundin sagt. „Die Person schläft gut.“ Das glaubt keiner."),
        ("de", "Mögliche Antworten:\n- gut\n- nicht durch"),
        ("de", "Mögliche Antworten:\n- gut"),
        ("de", "Ist der Tag lang? Gut. Die Nacht ist es auch."),
        ("de", "Nicht gut."),
        ("de", "gut oder nicht durch"),
        ("de", "Heute war alles in Ordnung. Gut. Dann kam die Nacht."),
        ("de", "Antwort: nicht gut"),
        ("zh", "帖子里有这个问题。"),
        ("zh", "不是没有"),
        ("zh", "他没有说。"),
        ("zh", "帖子里的食欲没有问题吗？"),
        ("hi", "व्यक्ति को नींद की समस्या है।"),
        ("hi", "हाँ या नहीं"),
        ("el", "Ναι, το άτομο κοιμάται καλά;"),
        ("el", "Δεν κοιμάται καλά."),
        ("ar", "هل نعم؟"),
        ("ar", "لا أعرف."),
        ("en", "I do not think that the poster sleeps well."),
        ("en", "There is no sign of a good sleeper."),
        ("en", "Nobody says that the poster wakes up at night."),
        ("en-GB", "It is not true that yes, the poster has nightmares."),
        ("en-GB", "No one knows."),
    ],
)
def test_what_only_resembles_a_label_is_not_read(language: str, text: str) -> None:
    assert read_label(text, TASKS[language]) is None


@pytest.mark.parametrize(
    ("language", "text", "label"),
    [
        ("de", "Wie schläft die Person? Gut.", "gut"),
        ("de", "Optionen:\n- gut\n- nicht durch\nFazit: nicht durch", "nicht durch"),
        ("de", "DIE PERSON WACHT NACHTS AUF, HEISST ES", "nicht durch"),
        ("de", "Antwort: „Einschlafstörung“", "nicht ein"),
        ("de", "Hier ist viel los. Die Person schläft gut. Das sieht man.", "gut"),
        ("de", '{"antwort": "gut", "grund": "nicht durch"}', "gut"),
        ("zh", "是的，帖子里有这个问题。因为他吃不下。", "yes"),
        ("zh", "帖子里的食欲有问题吗？没有。", "no"),
        ("zh", "答案是没有。", "no"),
        ("hi", "उत्तर: नहीं।", "no"),
        ("el", "Κοιμάται καλά το άτομο; Όχι.", "no"),
        ("ar", "لا، لا ينام الشخص جيدًا. Reasoning: كذا", "no"),
        ("en", "The answer is: broken sleep.", "wakes up"),
        ("en", "The poster cannot sleep. Reasoning: x", "no sleep"),
        ("en-GB", "Reasoning: all is calm. The answer is no.", "no"),
        ("en-GB", "I would say yes.", "yes"),
    ],
)
def test_how_answers_are_worded(language: str, text: str, label: str) -> None:
    assert read_label(text, TASKS[language]) == label


@given(st.sampled_from(sorted(TASKS)), st.text())
def test_reading_never_fails(language: str, text: str) -> None:
    assert read_label(text, TASKS[language]) in {*TASKS[language].labels, None}


@given(st.text())
def test_evening_out_twice_is_evening_out_once(text: str) -> None:
    once = even(text)
    assert [sentence.text for sentence in sentences_of(once)] == [sentence.text for sentence in sentences_of(text)]


LETTERS = st.text(st.characters(categories=["L", "Nd", "Mn", "Mc"]), min_size=1)


@given(LETTERS, LETTERS)
def test_texts_are_evened_out_alike_only_where_case_width_and_composition_alone_differ(one: str, two: str) -> None:
    if even(one) == even(two):
        assert _plain(one) == _plain(two)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LNM").strip(
        "\ufe00\ufe0f"
    )


@pytest.mark.parametrize(
    "word", ["नींद", "睡眠", "ύπνος", "نوم", "Schlaf", "سپنا", "การนอน", "잠", "שינה", "உறக்கம்", "Übelkeit"]
)
def test_words_of_every_script_stay_whole(word: str) -> None:
    assert even(word) == unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    assert [sentence.text for sentence in sentences_of(f"{word}. {word}!")] == [even(word)] * 2


@pytest.mark.parametrize(
    "piece", ['"gut" ', "gut: ", "Antwort ", "- gut\n", "Die Person schläft gut. ", "?! ", "\n\n: "]
)
def test_the_time_of_reading_grows_with_the_length_alone(piece: str) -> None:
    start = time.process_time()
    read_label(piece * (60_000 // len(piece)), TASKS["de"])
    assert time.process_time() - start < 2
