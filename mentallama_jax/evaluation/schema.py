"""The layout of `scores.json`, documented in one place.

Version 1 had no `schema_version`, counted `unparsed` as a class of macro F1, and had the interval of weighted F1 alone.
A reader of the file ignores keys that it does not know; the version rises when a key changes its meaning or goes.
"""

from collections.abc import Mapping

SCHEMA_VERSION = 2

_SUMMARY = {
    "n": "rows that were scored",
    "posts": "different posts among them; intervals are over posts",
    "accuracy": "share of right rows",
    "accuracy_interval": "its lower and upper end",
    "weighted_f1": "mean of the F1 of the labels, weighed by their gold rows; the headline figure",
    "weighted_f1_interval": "its lower and upper end",
    "macro_f1": "plain mean of the F1 of the labels that occur in gold or prediction",
    "macro_f1_interval": "its lower and upper end",
    "interval_methods": "metric -> `bootstrap` or `exact`",
    "warning": "what to mind of the intervals; null where there is nothing",
    "unparsed": "rows whose output states no readable label; all of them are wrong",
    "majority_weighted_f1": "weighted F1 of always answering the commonest gold label",
}
_DATASET = _SUMMARY | {
    "per_class": "label -> `precision`, `recall`, `f1`, `support` (gold rows)",
    "per_aspect": "aspect -> the keys of `pooled`; null where there are no aspects or rows do not tell theirs",
    "confusion": "gold label -> label read, or `unparsed` -> rows",
    "left_out": "rows besides these `n` whose gold states no label",
    "as_upstream": "null, or of the released scorer: `out_of_domain` (outputs that it counts as such), `fails_on` "
    "(rows whose gold makes it fail on the data set), `leaves_out` (rows that it leaves out)",
}
_DIFFERENCE = {
    "difference": "weighted F1 of these predictions less that of the others",
    "interval": "its lower and upper end, from the same posts drawn for both",
    "warning": "what to mind of the interval; null where there is nothing",
}
_SIGNATURE = {
    "predictions": "each file read: `file` and `sha256`",
    "passed_over": "what stood beside the files read and is no predictions",
    "left_out": "each row that is not scored: `dataset`, `file`, `row`, `reason`",
    "generation": "how the predictions were made: the `.meta.json` beside them; null where there is none",
    "gold": "where the gold labels come from",
    "posts": "how posts are known",
    "reader": "how labels were read from outputs",
    "bootstrap": "`resamples`, `seed` and `confidence` of the intervals",
    "definitions": "figure -> its definition",
    "versions": "package -> version",
}

_PART = (
    "`rows` that were scored, their `posts`, rows `without_reference` (not scored), `empty` outputs (scored as "
    "the metric defines), `warning`, and `metrics` (name -> `mean` over rows, `interval` over posts or null, its "
    "`method`, `corpus` figure or null, `unit`: share of 1, or nats)"
)

FIELDS: Mapping[str, str | Mapping[str, str]] = {
    "schema_version": f"{SCHEMA_VERSION}",
    "datasets": _DATASET,
    "pooled": _SUMMARY,
    "mean_over_datasets": "metric -> plain mean over data sets",
    "signature": _SIGNATURE,
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
    "comparison": {
        "metric": "what is compared",
        "datasets": "data set -> " + ", ".join(f"`{key}` ({what})" for key, what in _DIFFERENCE.items()),
        "pooled": "the same of all rows together",
        "other": "the signature of the other predictions",
    },
}
"""Key -> its meaning, or its own keys. Under `datasets` the keys stand below the name of each data set. Scores are
fractions of 1. `explanations` is there only where metrics of them were asked for, `classifiers` only where classifiers
read outputs, `comparison` only where two sets of predictions were compared."""

PROBE_SCHEMA_VERSION = 1

_MEAN = "`value` and `interval` over posts"
_EXPLAINED = f"{_MEAN}, of the parts that the explanation points at"
_RANDOM = f"{_MEAN}, of random parts of the same lengths"
_LESS_RANDOM = f"{_MEAN}, of the parts less random ones, row by row"
_AGAINST_NEUTRAL = "`value`, `difference` from the neutral sentences, its `interval`, `p`, and `p_holm` (over groups)"
_ERASURE = {
    "rows": "rows of the predictions that were looked at",
    "unparsed": "rows whose output states no readable label; not measured, as are the three that follow",
    "without_explanation": "rows whose output is a label sentence alone",
    "without_parts": "rows whose explanation points at no part of the post",
    "whole_post": "rows whose explanation points at every word of the post, so that no random parts differ",
    "measured": "rows in the figures",
    "posts": "different posts among them",
    "by_quotes": "measured rows whose parts were quoted",
    "by_overlap": "measured rows whose parts were found by shared words",
    "cut_posts": "measured rows whose post lost its end to fit",
    "label_agrees": f"share of rows whose likeliest label sentence is the label that the output states: {_MEAN}",
    "share_of_words": f"share of the post's words in the parts: {_MEAN}",
    "p": f"probability of the stated label: {_MEAN}",
    "comprehensiveness": f"p of the post less p without the parts: {_EXPLAINED}",
    "random_comprehensiveness": f"the same: {_RANDOM}",
    "comprehensiveness_difference": f"above 0 where the parts were needed more than random ones: {_LESS_RANDOM}",
    "sufficiency": f"p of the post less p of the parts alone: {_EXPLAINED}",
    "random_sufficiency": f"the same: {_RANDOM}",
    "sufficiency_difference": f"below 0 where the parts do better alone than random ones: {_LESS_RANDOM}",
    "warning": "what to mind of the intervals; null where there is nothing",
}
_COUNTERFACTUAL = {
    "rows": "rows that state a label and explain it; another label was forced in each",
    "posts": "different posts among them",
    "empty": "rows in which nothing was written behind the forced label",
    "states_forced": "rows whose new explanation states the forced label in so many words",
    "states_original": "rows whose new explanation states the label that the model gave by itself",
    "states_another": "rows whose new explanation states a third label",
    "states_none": "rows whose new explanation states no label that rules read",
    "follows": f"share of `rows` that state the forced label: {_MEAN}",
    "follows_where_stated": f"share of those that state any label: {_MEAN}",
    "original_states_own": f"share of `rows` whose own explanation states its own label, by the same rules: {_MEAN}",
    "similarity": f"F1 of the content words of the new and the own explanation: {_MEAN}",
    "warning": "what to mind of the intervals; null where there is nothing",
}
_GROUP = {
    "sentences": "of the group, whose mean counts",
    "flip_rate": f"share of rows whose label is another than without a prefix: {_AGAINST_NEUTRAL}",
    "weighted_f1": _AGAINST_NEUTRAL,
    "p_gold": f"probability of the gold label: {_AGAINST_NEUTRAL}",
    "p_yes": f"probability of yes; null where no task has the labels yes and no: {_AGAINST_NEUTRAL}",
}
_GAP = "`highest` and `lowest` group, their `difference`, its `interval`, `p` (times the number of pairs), `p_holm` "
_FAIRNESS = {
    "rows": "rows with a gold label",
    "posts": "different posts among them",
    "yes_no_rows": "rows whose task has the labels yes and no: those of `p_yes`",
    "cut_posts": "rows whose post lost its end to fit",
    "noise_floor": f"flip rate of the neutral sentences: {_MEAN}",
    "without_prefix": "`weighted_f1`, `p_gold` and `p_yes` of the posts themselves",
    "neutral": "the same with the neutral sentences",
    "groups": _GROUP,
    "gaps": f"attribute -> measure -> {_GAP}(over attributes)",
    "warning": "what to mind of the intervals; null where there is nothing",
}
_VARIANT = {
    "rows": "rows that the change leaves not equal; all figures are of these",
    "unchanged": "rows that it leaves equal",
    "posts": "different posts among `rows`",
    "flip_rate": f"share of rows whose label is another than that of the post itself: {_MEAN}",
    "p_change": f"probability of the label of the post itself, with the change less without: {_MEAN}",
    "weighted_f1_before": "of the posts themselves",
    "weighted_f1": "of the changed posts",
    "f1_change": f"the second less the first: {_MEAN}",
    "warning": "what to mind of the intervals; null where there is nothing",
}
_ROBUSTNESS = {
    "rows": "rows with a gold label",
    "posts": "different posts among them",
    "cut_posts": "rows whose post lost its end to fit",
    "weighted_f1": "of the posts themselves, by the likeliest label sentence",
    "variants": _VARIANT,
}

PROBE_FIELDS: Mapping[str, Mapping[str, object]] = {
    "file": {
        "schema_version": f"{PROBE_SCHEMA_VERSION}",
        "probe": "`faithfulness`, `fairness` or `robustness`, as the file is called",
        "datasets": "data set -> the keys of the probe",
        "pooled": "the same of all rows; equal labels of different data sets are different classes",
        "notes": "what to mind, a line each",
        "signature": "`model`, `data` (and the predictions, with `same_weights`: whether the model made them, null "
        "where that is not known), `settings` (with the table of sentences or questions), `definitions`, `versions`",
    },
    "faithfulness": {"erasure": _ERASURE, "counterfactual": _COUNTERFACTUAL},
    "fairness": _FAIRNESS,
    "robustness": _ROBUSTNESS,
}
"""The keys of `faithfulness.json`, `fairness.json` and `robustness.json`. `counterfactual` is null where no label was
forced. Under `groups` the keys stand below attribute and group, under `variants` below each kind of change. Figures are
null where there are no rows. Scores are fractions of 1."""
