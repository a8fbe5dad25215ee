"""The layouts of `scores.json` and `comparison.json`, documented in one place.

Version 1 had no `schema_version`, counted `unparsed` as a class of macro F1, and had the interval of weighted F1 alone.
Version 2 had a `comparison`, and intervals from draws, with their `bootstrap` in the signature.
A reader of the file ignores keys that it does not know; the version rises when a key changes its meaning or goes.
"""

from collections.abc import Mapping

SCHEMA_VERSION = 3

_SUMMARY = {
    "n": "rows that were scored",
    "posts": "different posts among them; intervals are over posts",
    "accuracy": "share of right rows",
    "accuracy_interval": "its lower and upper end",
    "weighted_f1": "mean of the F1 of the labels, weighed by their gold rows; the headline figure",
    "weighted_f1_interval": "its lower and upper end",
    "macro_f1": "plain mean of the F1 of the labels that occur in gold or prediction",
    "macro_f1_interval": "its lower and upper end",
    "interval_methods": "metric -> `wilson` or `exact`",
    "warning": "what to mind of the intervals; null where there is nothing",
    "unparsed": "rows whose output states no readable label; all of them are wrong",
    "majority_weighted_f1": "weighted F1 of always answering the commonest gold label",
}
_DATASET = _SUMMARY | {
    "per_class": "label -> `precision`, `recall`, `f1`, `support` (gold rows)",
    "per_aspect": "aspect -> the keys of `pooled`; null where there are no aspects or rows do not tell theirs",
    "confusion": "gold label -> label read, or `unparsed` -> rows",
    "confusion_per_aspect": "aspect -> the same of its rows; null where `per_aspect` is",
    "left_out": "rows besides these `n` whose gold states no label",
    "as_upstream": "null, or of the released scorer: `out_of_domain` (outputs that it counts as such), `fails_on` "
    "(rows whose gold makes it fail on the data set), `leaves_out` (rows that it leaves out)",
}
_SIGNATURE = {
    "predictions": "each file read: `file` and `sha256`",
    "given": "the files and folders that were named, of which these were read",
    "forms": "in what form each file was read, and of other programs' files which column was taken for what",
    "read_as": "what the user said of the files: `columns` (role -> column), `dataset`, source of `gold`; or null",
    "passed_over": "what stood beside the files read and is no predictions",
    "remarks": "what looks odd of the rows, such as gold that contradicts itself",
    "left_out": "each row that is not scored: `dataset`, `file`, `row`, `reason`",
    "generation": "how the predictions were made: the `.meta.json` beside them; null where there is none",
    "gold": "where the gold labels come from",
    "ids": "where the ids of rows come from: the files, or row numbers",
    "posts": "how posts are known",
    "reader": "how labels were read from outputs",
    "confidence": "of the intervals",
    "definitions": "figure -> its definition",
    "versions": "package -> version",
}

_PART = (
    "`rows` that were scored, their `posts`, rows `without_reference` (not scored), `empty` outputs (scored as "
    "the metric defines), `warning`, and `metrics` (name -> `mean` over rows, `interval` over posts or null, its "
    "`method`, `corpus` figure or null, `unit`: share of 1, or nats)"
)

_SHARE = (
    "`count` of `of` rows, their `posts`, `share` (null where `of` is 0), `interval` over posts, its `method`, "
    "`warning`"
)
_ESTIMATE = "`value`, `interval` over posts (null where nothing varies and there are no bounds), its `method`"
_RELIABILITY = (
    f"`ece`, `brier`, `log_loss`, mean `confidence` and `accuracy` of the likeliest label (each {_ESTIMATE}), "
    "`ece_if_calibrated` (what ECE would be on average if probabilities were true), and `bins` by rising confidence: "
    "`lowest` and `highest` confidence, `rows`, mean `confidence`, share of `right` rows"
)
_CALIBRATION = (
    "`rows` with log-probabilities, their `posts`, rows `without_log_probabilities`, rows `differing` (whose output "
    f"does not state their likeliest label), `as_given` ({_RELIABILITY}), `temperature` (null, or `value`, `interval`, "
    "and of validation `rows`, `posts`, `without_log_probabilities`, `remark`), `tempered` (null, or the keys of "
    "`as_given` with the temperature applied), `selective` (`aurc`, `excess_aurc`, `accuracy_at_80`, `risk_coverage`: "
    "points with `coverage`, `risk`, `threshold`), `conformal` (null, or `promised`, `coverage`, `mean_size` of "
    "`labels`, `sizes`: size -> rows, `threshold`: lowest probability of a label in a set, `calibration_rows`, "
    "`calibration_posts`, `remark`), `warning`"
)

FIELDS: Mapping[str, str | Mapping[str, str]] = {
    "schema_version": f"{SCHEMA_VERSION}",
    "high_risk": {
        "datasets": "data set -> its labels of high risk: `label`, `aspect` (empty for all rows), `recall`, `missed` "
        f"(false negatives) and `precision` (each {_SHARE}), missed rows `unparsed`, `read_as`: label -> missed rows",
        "reasons": "data set -> which of its labels are of high risk, and why",
        "definitions": "figure -> its definition",
    },
    "datasets": _DATASET,
    "pooled": _SUMMARY,
    "mean_over_datasets": "metric -> plain mean over data sets",
    "signature": _SIGNATURE,
    "coverage": {
        "split": "`train`, `val` or `test`",
        "stated": "whether the rows say so; else they are taken for rows of the test split",
        "rows": "different rows of it that were scored; what several seeds answered is one row",
        "of": "rows that it has in the whole benchmark; null where that is not known",
    },
    "lengths": {
        "datasets": "data set -> `rows`, `median` and `quartiles` of the words of outputs, `cut_posts` (rows whose "
        "post lost its end to fit), and `by_length`: groups by rising length, each with `shortest`, `longest`, `rows`, "
        "`posts`, `accuracy`, its `interval` over posts, `warning`",
        "pooled": "the same of all rows",
    },
    "output_faults": {
        "datasets": f"data set -> fault -> {_SHARE}",
        "pooled": "the same of all rows",
        "definitions": "fault -> when a row has it; a row may have several",
    },
    "calibration": {
        "datasets": f"data set -> {_CALIBRATION}",
        "pooled": "the same of all rows; `temperature` and `conformal` are null",
        "calibrated_on": "null, or where the validation predictions come from",
        "definitions": "figure -> its definition",
    },
    "grounding": {
        "datasets": f"data set -> figure -> {_SHARE}, or of the quotes, names or numbers in them; null where it needs "
        "posts that were not given",
        "pooled": "the same of all rows",
        "posts_given": "whether the posts were there to look in",
        "definitions": "figure -> its definition",
    },
    "care": {
        "datasets": f"data set -> `diagnosis`, `instruction`, `judgement`, `any`, `label_states_diagnosis` (each "
        f"{_SHARE}), `by_rule` (rule -> rows), `ids` (kind -> the first rows); no `care` without tasks in English",
        "pooled": "the same of all rows",
        "left_out": "rows of tasks in other languages than English, which the rules cannot read",
        "definitions": "figure -> its definition",
    },
    "explanations": {
        "datasets": f"data set -> `response` and `explanation` -> {_PART}",
        "pooled": f"`response` and `explanation` of all rows -> {_PART}",
        "signatures": "metric -> how it is computed",
    },
    "classifiers": {
        "agreement": "null, or data set -> rules beside classifier: `rows` in which both read a label, their `posts`, "
        "`agreement` (share of equal labels), Cohen's `kappa` with its `kappa_interval` over posts, rows "
        "`unparsed_by_rules` and `unparsed_by_classifier`, `warning`",
        "consistency": "null, or data set and `pooled` -> `share` of `rows` whose explanation alone a classifier reads "
        "as the label that the output states, their `posts`, `interval` over posts, its `method`, rows `without_label` "
        "and `without_explanation` (not scored), `gold_share` of the `gold_rows` whose gold explanation is read as the "
        "gold label, `warning`",
        "signatures": "data set -> its classifier: weights, tokenizer, `classes` and what they were named by, `input`, "
        "`max_length`, what it was `trained` from",
    },
}
"""Key -> its meaning, or its own keys. Under `datasets` the keys stand below the name of each data set, and those of
`coverage` in a list below it, an object a split. Scores are fractions of 1. `calibration` is there only where
predictions carry log-probabilities of labels, `explanations` only where metrics of them were asked for, `classifiers`
only where classifiers read outputs."""

COMPARISON_VERSION = 1

COMPARISON_FIELDS: Mapping[str, str | Mapping[str, str]] = {
    "schema_version": f"{COMPARISON_VERSION}",
    "systems": "system -> of each of its seeds what was read: the keys of `signature` in scores.json from "
    "`predictions` to `posts`",
    "left_out": "file -> rows that were left out, as other systems lack them",
    "units": "metric -> `share` of 1, or `nats`, as the metric says it",
    "standings": {
        "metric": "`accuracy`, `weighted_f1`, `macro_f1`, or a metric of explanations with its part in brackets",
        "dataset": "a data set, or `pooled`",
        "values": "system -> its figure, of each seed",
        "best": "the system with the highest figure",
        "not_distinguished": "it, and the systems of which it is not known to be better after Holm's correction",
    },
    "differences": {
        "metric": "as above",
        "dataset": "as above",
        "first": "a system",
        "second": "another",
        "rows": "rows of both",
        "posts": "different posts among them",
        "first_value": "figure of the first, the mean over its seeds",
        "second_value": "figure of the second",
        "difference": "the first less the second",
        "interval": "its lower and upper end, over posts and seeds; null where nothing varies and there are no bounds",
        "test": "`mcnemar`, `exchange, all`, `exchange, drawn` or `t over posts and seeds`",
        "p": "its two-sided p-value",
        "p_holm": "the same with Holm's correction",
        "icc": "intraclass correlation of the row-wise differences; null where no post has two rows or none differs",
        "design_effect": "1 + (rows a post - 1) ICC; null likewise",
        "post_variance": "variance of the difference over posts",
        "seed_variance": "variance of the difference over seeds; 0 where each system has one",
        "minimum_detectable": "the smallest true difference that would be found with a chance of 0.8; null where no "
        "post differs",
        "posts_needed": "posts on which the difference seen would be found with that chance, were it the true one and "
        "the variance over seeds as it is; null where there is no difference, or no number of posts would do",
        "warning": "what to mind of the interval; null where there is nothing",
    },
    "signature": "`reader` of labels, `settings` (confidence, draws of the tests and their seed), `power`, "
    "`matched_only`, `metrics` (metric -> how it is computed), `classifiers` "
    "(data set -> that which read labels), `definitions`, `versions`",
}
"""Key -> its meaning, or the keys of each entry of its list."""

_MARKED_ESTIMATE = (
    "`value`, `interval` over posts (null where nothing varies and there are no bounds), `method` (`wilson`, "
    "`t` or `exact`)"
)
_CORRELATION = f"`rows` and `posts` that have both, `spearman` and `kendall` (tau-b), each null or {_MARKED_ESTIMATE}"

AGREEMENT_FIELDS: Mapping[str, str | Mapping[str, str]] = {
    "schema_version": f"{SCHEMA_VERSION}",
    "rows": "marked answers",
    "posts": "different posts among them; intervals are over posts",
    "annotators": "their names",
    "scale": "the lowest and the highest mark",
    "warning": "what to mind of the intervals; null where there is nothing",
    "criteria": {
        "rows": "answers with at least one mark",
        "posts": "different posts among them",
        "missing": "marks that annotators did not give",
        "mean": f"mean of the mean marks of answers: {_MARKED_ESTIMATE}",
        "alpha": f"Krippendorff's alpha for ordinal marks: {_MARKED_ESTIMATE}; null where nothing can be compared",
        "pairwise": f"two annotators, mean over the pairs: {_CORRELATION}",
        "ceiling": f"an annotator with the mean of the others, mean over annotators: {_CORRELATION}",
        "metrics": "metric -> `with_mean` (with the mean mark of all annotators), `with_others` (of all but one, mean "
        "over the one left out), `ceiling` (the marks of the one left out in place of the metric, on the same rows), "
        f"each {_CORRELATION}; and differences of Spearman's, null or an estimate: `to_ceiling` (`with_others` less "
        "`ceiling`), `to_length` (`with_mean` less that of the length in words)",
    },
    "systems": {
        "rows": "its marked answers",
        "posts": "different posts among them",
        "marks": f"criterion -> mean of the mean marks of answers: {_MARKED_ESTIMATE}",
        "within": f"criterion -> metric -> with the mean mark, over this system alone: {_CORRELATION}",
        "corrected": "criterion -> metric -> mean mark of all its answers by prediction-powered inference: `estimate`, "
        "`interval`, `weight` (marks that one unit of the metric is worth), `marked_mean` and `marked_interval` (of "
        "the marks alone), `marked_rows`, `marked_posts`, `unmarked_rows`, `unmarked_posts`",
    },
    "not_computed": "metric -> why it has no figures",
    "signature": {
        "marks": "each file read: `file` and `sha256`",
        "study": "key of the study; null for annotated files",
        "left_out": "each row of marks that could not be read: `file`, `row`, `reason`",
        "gold": "null, or how answers found their gold: `exact`, `alike` (by words), `none`, `other_labels`",
        "metrics": "metric -> how it is computed",
        "confidence": "of the intervals",
        "definitions": "figure -> its definition",
        "versions": "package -> version",
    },
}
"""The layout of `human_agreement.json`: under `criteria` and `systems` the keys stand below each name. Metrics that
compare answers with posts end in `:post`; `words` and `label_correct` need no reference."""
