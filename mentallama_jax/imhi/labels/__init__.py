"""Reading a label from what a model wrote: from the whole output, and never a default class.

First the answer is taken out of its wrapping: a reasoning trace is cut away (`<think>`, `[THINK]`, channels; one that
never closes states no label), and boxes (`\\boxed{yes}`), answer tags and JSON become plain lines. What stands after
the start of a further question (`Consider this post:`, as run-on models write) does not count, nor do quotations.

`read_label` then asks in turn; the first that finds anything decides, and where it finds several different labels the
output is unparsed (None):

1. corrections: after "Wait, ...", "Correction: ...", "On reflection, ..." at the start of a sentence only what follows
   counts. In the reasons for an answer it counts where it declares an answer anew; else the answer stays, and is
   unparsed where what follows speaks for another label;
2. final and opening answers together: "Final answer: no", and what the output begins with ("Yes, ...", "school.
   Reasoning: ...", "Not depressed", and before any reasons "depression: no" and "Yes: 20%, No: 80%"). Where they
   differ from each other, or from what is declared (3) before `Reasoning:`, and no correction stands between them, the
   output contradicts itself and is unparsed. So is an opening that contradicts its own sentence;
3. declared answers anywhere: a whole label sentence of the benchmark, "the answer is ...", a line that is only a label;
4. claims in words ("... is likely suffering from stress", "shows no signs of ..."), negation in mind; those of
   sentences that open as a conclusion ("Overall, ...") before others;
5. for label names only: the one name that the answer part mentions, where it (what stands before any `Reasoning:`)
   is a single sentence.

These are deliberately not read, as a wrong reading is worse than none:

- numbers as labels (`{"label": 1}`), and the letter of an option that the answer does not list itself;
- one percentage alone ("Yes: 20%"), scores and stars ("Yes: 0.1, No: 0.9", `{"yes": false}`); but a label that is
  declared is read, whatever stands in brackets behind it ("Label: anxiety (0.93)");
- the first of several labels that are listed as options ("A) Yes", "B) No") or gone through ("Anxiety: ...",
  "Depression: ..."): what is declared behind them is read;
- a name that goes on to another noun ("suicide prevention", "family dinner"), or that a denial holds ("no mental
  disorder such as PTSD");
- negations in the evidence for a claim as denials of it ("having no friends indicates that ..."), and claims with
  evidence where it is not sure which of the two a negation belongs to;
- hedges: "may be", "cannot rule out", "both are possible", "at first glance";
- what is only implied: "the post shows someone who copes well", "everything is fine";
- other languages than that of the task.

Tasks in English are read by the rules above; those of one's own by their sentences, names and aliases in place of the
released wordings, without claims in words (4). Tasks in another language are read by `plain_reader`.
"""

from mentallama_jax.imhi.labels.folding import fold
from mentallama_jax.imhi.labels.plain_reader import plain_reader
from mentallama_jax.imhi.labels.reader import Reading, reader
from mentallama_jax.imhi.labels.unwrapping import unwrapped, without_traces
from mentallama_jax.imhi.tasks import Task

__all__ = ["Reading", "contradicts", "read_label", "read_label_by"]


def read_label(text: str, task: Task, aspect: str = "") -> str | None:
    """Read the label that a model's output states.

    Args:
        text: the output, whole.
        task: which data set's labels to look for.
        aspect: what the question was about, where it is known; statements about other aspects are then passed over.

    Returns:
        A canonical label of `task`, or None where the output states none, or several, or only implies one.
    """
    return read_label_by(text, task, aspect).label


def read_label_by(text: str, task: Task, aspect: str = "") -> Reading:
    """Read the label that a model's output states, as `read_label` does, and name the rule that decided."""
    answer = without_traces(text)
    if answer is None:
        return Reading(None, "reasoning that never ends")
    if not task.in_english:
        plain = plain_reader(task)
        label = plain.read(unwrapped(answer, plain.keys))
        return Reading(label, "no single label said" if label is None else "sentence of the task's file")
    of_task = reader(task, aspect)
    return of_task.read(fold(unwrapped(answer, of_task.words.keys)))


def contradicts(label: str, explanation: str, task: Task, aspect: str = "") -> bool:
    """Whether an explanation, read without its label sentence, states another label of `task` than `label`.

    Some released explanations argue for another label than that of their row. False where the explanation states no
    label, or only implies one: what is counted is what the explanation says in so many words.
    """
    return read_label(f"Reasoning: {explanation}", task, aspect) not in (None, label)
