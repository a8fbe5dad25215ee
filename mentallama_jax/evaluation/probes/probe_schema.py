"""The layout of `faithfulness.json`, `fairness.json` and `robustness.json`, documented in one place.

A reader ignores keys that it does not know; the version rises when a key changes its meaning or goes.
"""

from collections.abc import Mapping

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
