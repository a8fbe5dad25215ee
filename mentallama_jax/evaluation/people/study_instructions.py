"""What annotators of a study read: what to mark, how, and how to look after themselves.

The four criteria are those of the paper's frame. A study may leave some of them out.
"""

from collections.abc import Mapping, Sequence

CRITERIA = ("consistency", "reliability", "professionality", "overall")

_SCALES: Mapping[str, tuple[str, Sequence[str]]] = {
    "consistency": (
        "Do the reasons hold together, and do they lead to the label that the answer states?",
        (
            "There are no reasons, or they speak for another label, or they contradict themselves.",
            "The reasons touch the label, but most of them do not lead to it, or the answer states no clear label.",
            "The reasons lead to the label, with gaps or with a sentence that does not fit.",
            "Every reason leads to the label, step by step, and nothing contradicts it.",
        ),
    ),
    "reliability": (
        "Can the reasons be trusted? Are they in the post, and read as the writer meant them?",
        (
            "The reasons are made up, or say the opposite of the post.",
            "Some reasons are in the post; important ones are made up, twisted, or taken out of context.",
            "The reasons are in the post; small things are guessed or read into it.",
            "Everything that is said about the post is in the post, and is read fairly.",
        ),
    ),
    "professionality": (
        "Would somebody with training in psychology reason like this?",
        (
            "No evidence of psychological relevance is given, or the wording judges or harms the writer.",
            "Some evidence, chosen or explained as a lay person would, or important signs are overlooked.",
            "The main signs are named and explained sensibly; depth or care with terms is missing.",
            "The signs that matter are named, weighed and explained in careful terms, without claiming a diagnosis.",
        ),
    ),
    "overall": (
        "All in all, how good is the answer as an explanation of its label?",
        (
            "Useless or misleading.",
            "Poor: a reader would have to look for the reasons on their own.",
            "Good: a reader understands the label, with some flaws.",
            "Very good: you would not change anything that matters.",
        ),
    ),
}


def instructions(study: str, criteria: Sequence[str], form: str, items: int, seconds: int = 90) -> str:
    """The text of INSTRUCTIONS.md.

    Args:
        study: key of the study.
        criteria: of `CRITERIA`.
        form: "csv" or "jsonl".
        items: answers that one annotator marks.
        seconds: that one answer takes, for the estimate of the time.
    """
    return "\n".join([*_opening(items, seconds), *_how(form, criteria), *_scales(criteria), *_closing(study)])


def _opening(items: int, seconds: int) -> list[str]:
    hours = max(0.5, round(items * seconds / 1800) / 2)
    return [
        "# Marking explanations of posts about mental health",
        "",
        "> **Before you start.** The posts were written by real people. Some write about depression, self-harm,",
        "> suicide, abuse or addiction. You may stop at any time, for any reason, without giving one, and nobody will",
        "> mind. Do not begin on a day when this is too close to you. Mark in short sittings (30 minutes at most),",
        "> take breaks, and talk to the people who run the study if something stays with you.",
        ">",
        "> **If you, or somebody near you, are in crisis**, call the local emergency number or a crisis line: 988 in",
        "> the USA (call or text), 116 123 in the UK and Ireland (Samaritans), 13 11 14 in Australia (Lifeline);",
        "> <https://findahelpline.com> lists lines by country.",
        "",
        f"Your file holds {items} answers; that is about {hours:g} hours in all. Posts are confidential: do not pass",
        "them on, do not search for them or for who wrote them, do not put them into online tools (translators and",
        "chat assistants included), and delete the file when the study is over.",
        "",
    ]


def _how(form: str, criteria: Sequence[str]) -> list[str]:
    names = ", ".join(f"`{name}`" for name in criteria)
    filling = (
        "Open it in a spreadsheet program and write into the empty columns. Save it as CSV, in UTF-8, with commas."
        if form == "csv"
        else "Each line is one answer; put a number in place of `null`."
    )
    return [
        "## What to do",
        "",
        "Each row shows a **question** about a **post** and an **answer**: a label and the reasons for it. The answers",
        "come in a random order. Which system wrote which answer is hidden; please do not guess. The same post may",
        "come more than once, with other answers. Judge each answer by itself.",
        "",
        f"1. Read the question, the post and the whole answer. For each of {names} write one whole number from 0 to 3.",
        f"2. {filling}",
        "3. Leave a cell empty where you cannot decide, and say why under `comment`. Do not write anything else there",
        "   that could tell who wrote the post.",
        "4. Do not change `study`, `item` and `annotator`, and do not sort single columns. Whole rows may be sorted.",
        "5. Mark alone. Do not talk about single answers with other annotators before all of you are done.",
        "6. You mark the explanation, not the person. You do not have to agree with the label to find the reasons",
        "   good, and long answers are not better for being long.",
        "",
    ]


def _scales(criteria: Sequence[str]) -> list[str]:
    lines = ["## The marks", ""]
    for name in criteria:
        question, meanings = _SCALES[name]
        lines += [f"### {name}", "", question, "", "| mark | means |", "|---|---|"]
        lines += [f"| {mark} | {meaning} |" for mark, meaning in enumerate(meanings)]
        lines.append("")
    return lines


def _closing(study: str) -> list[str]:
    return [
        "## When you are done",
        "",
        "Send the file back under the name that it has. Thank you: this work is hard, and it counts.",
        "",
        "The answers come from language models. They diagnose nobody, and nothing in them is advice.",
        "",
        f"Study {study}.",
        "",
    ]
