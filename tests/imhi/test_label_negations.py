"""Negation of every kind: a denial must never be read as a claim, nor the other way round.

Each sentence was written for the tests. A denial may be unparsed: a wrong reading is worse than none.
"""

import pytest

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

CONDITIONS = {
    "DR": ("depression", "depressed"),
    "dreaddit": ("stress", "stressed"),
    "loneliness": ("loneliness", "lonely"),
}
NOUNS = [
    ("MultiWD", "social", "the social wellness dimension"),
    ("IRF", "thwarted belongingness", "risk of thwarted belongingness"),
    ("IRF", "thwarted belongingness", "thwarted belongingness"),
]
NAMED = [
    ("SAD", "stress", "work"),
    ("SAD", "stress", "school"),
    ("CAMS", "depression", "medication"),
    ("SWMH", "anxiety", "anxiety"),
    ("SWMH", "suicide", "suicide"),
    ("T-SID", "depression", "depression"),
]

NEVER_YES = (
    "Nothing in this post shows {noun}.",
    "None of this shows that the poster is {adjective}.",
    "Nowhere does the post show {noun}.",
    "Nowhere in the text does the poster suffer from {noun}.",
    "I doubt that the poster suffers from {noun}.",
    "I seriously doubt the poster is {adjective}.",
    "I highly doubt that this poster suffers from {noun}.",
    "I would not say that the poster is {adjective}.",
    "I don't believe the poster suffers from {noun}.",
    "I don't think that the post shows {noun}.",
    "The poster hardly suffers from {noun}.",
    "The poster is hardly {adjective}.",
    "The poster is far from {adjective}.",
    "The poster is far from being {adjective}.",
    "The poster is anything but {adjective}.",
    "The post is free of {noun}.",
    "The post is free from any signs of {noun}.",
    "The poster is free of {noun}.",
    "The post is devoid of {noun}.",
    "The post fails to show {noun}.",
    "The post fails to indicate that the poster is {adjective}.",
    "The evidence fails to show that the poster suffers from {noun}.",
    "I refuse to say that the poster is {adjective}.",
    "The calm tone rules out that the poster suffers from {noun}.",
    "The cheerful tone excludes that the poster is {adjective}.",
    "We can rule out that the poster is {adjective}.",
    "It is unlikely that the poster is {adjective}.",
    "It seems unlikely the poster suffers from {noun}.",
    "It is highly improbable that the poster is {adjective}.",
    "Neither the tone nor the words suggest that the poster is {adjective}.",
    "Neither of these points shows that the poster suffers from {noun}.",
    "Neither this sentence nor the next one shows that the poster is {adjective}.",
    "The poster neither suffers from {noun} nor shows signs of {noun}.",
    "No part of this post shows {noun}.",
    "No line here suggests that the poster is {adjective}.",
    "Not a single word in this post shows {noun}.",
    "At no point does the post show {noun}.",
    "In no way does the post show {noun}.",
    "In no way is the poster {adjective}.",
    "By no means does the post show {noun}.",
    "Under no circumstances would I say that the poster is {adjective}.",
    "There is nothing here to indicate that the poster is {adjective}.",
    "There is nothing that shows that the poster suffers from {noun}.",
    "There's no reason to believe that the poster suffers from {noun}.",
    "I see no evidence that the poster is {adjective}.",
    "I find nothing that would suggest that the poster is {adjective}.",
    "I found no indication that the poster suffers from {noun}.",
    "Little suggests that the poster is {adjective}.",
    "Little in this post suggests that the poster is {adjective}.",
    "Few of these signs show that the poster is {adjective}.",
    "It would be wrong to say that the poster suffers from {noun}.",
    "It would be a mistake to conclude that the poster is {adjective}.",
    "It would be a stretch to say that the poster is {adjective}.",
    "It would be premature to say that the poster is {adjective}.",
    "It is false that the poster suffers from {noun}.",
    "It is not true that the poster suffers from {noun}.",
    "It is untrue that the poster suffers from {noun}.",
    "It is incorrect that the poster suffers from {noun}.",
    "It is doubtful that the poster suffers from {noun}.",
    "It is questionable whether the poster suffers from {noun}.",
    "It remains to be seen whether the poster suffers from {noun}.",
    "That the poster suffers from {noun} is doubtful.",
    "That the poster is {adjective} seems unlikely.",
    "The idea that the poster is {adjective} is wrong.",
    "The claim that the poster is {adjective} does not hold.",
    "The claim that the poster suffers from {noun} is unfounded.",
    "The notion that the poster suffers from {noun} finds no support here.",
    "The post contradicts the idea that the poster is {adjective}.",
    "The tone argues against the view that the poster suffers from {noun}.",
    "There is evidence against the view that the poster is {adjective}.",
    "The poster lacks symptoms of {noun}.",
    "The post lacks any indication that the poster is {adjective}.",
    "The post lacks evidence of {noun}.",
    "The absence of sadness means that the poster is not {adjective}.",
    "Without further evidence, we cannot say that the poster is {adjective}.",
    "Rather than {noun}, the post shows joy.",
    "Rather than showing {noun}, the poster celebrates.",
    "Rather than indicating that the poster suffers from {noun}, the post is about football.",
    "Instead of suggesting that the poster is {adjective}, the post is a joke.",
    "As opposed to suggesting that the poster is {adjective}, the post is a joke.",
    "Only a careless reader would conclude that the poster is {adjective}.",
    "Nobody would say that the poster is {adjective}.",
    "No one reading this would think that the poster is {adjective}.",
    "No reasonable reader would conclude that the poster suffers from {noun}.",
    "The poster denies that the poster suffers from {noun}.",
    "The poster is not, in my view, {adjective}.",
    "The poster is not in any way {adjective}.",
    "The poster is by no means {adjective}.",
    "The poster is in no way {adjective}.",
    "The poster is never {adjective}.",
    "The poster isn't really suffering from {noun}.",
    "The poster does not seem to me to suffer from {noun}.",
    "The poster has never suffered from {noun}.",
    "The poster has recovered from {noun}.",
    "The poster is no longer {adjective}.",
    "The poster has overcome {noun}.",
    "The poster used to suffer from {noun}.",
    "The poster was once {adjective}.",
    "The poster avoids {noun}.",
    "The post stops short of showing {noun}.",
    "The post shows anything but {noun}.",
    "The post shows everything except {noun}.",
    "The post shows an absence of {noun}.",
    "The post shows a lack of {noun}.",
    "The post suggests the absence of {noun}.",
    "The post shows zero signs of {noun}.",
    "The post contains zero evidence of {noun}.",
    "The post shows no {noun} at all.",
    "The post provides no grounds for saying that the poster is {adjective}.",
    "The poster couldn't be less {adjective}.",
    "The poster is not at all {adjective}.",
    "The poster is less {adjective} than bored.",
    "The poster is not so much {adjective} as bored.",
    "{noun} is absent.",
    "{noun} is not present in this post.",
    "No {noun} here.",
    "No sign of {noun}.",
    "{noun}: none",
    "{noun} - no",
    "{adjective}? No.",
    "Is the poster {adjective}? No.",
    "Does the poster suffer from {noun}? Not at all.",
    "Not at all.",
    "Not likely.",
    "Negative.",
    "Absolutely not.",
    "Definitely not {adjective}.",
    "Certainly not.",
    "If anything, the opposite of {noun}.",
    "It's hard to argue that the poster is {adjective}.",
    "One cannot conclude that the poster is {adjective}.",
    "I can't say that the poster suffers from {noun}.",
    "I am not convinced that the poster is {adjective}.",
    "I am unconvinced that the poster is {adjective}.",
    "I'm not persuaded that the poster is {adjective}.",
    "I hesitate to say that the poster is {adjective}.",
    "I disagree that the poster is {adjective}.",
    "I disagree with the view that the poster suffers from {noun}.",
    "I question whether the poster is {adjective}.",
    "It does not follow that the poster is {adjective}.",
    "It doesn't mean that the poster is {adjective}.",
    "That does not make the poster {adjective}.",
    "This isn't to say that the poster is {adjective}.",
    "Sadness alone does not show that the poster is {adjective}.",
    "Being sad is not the same as saying that the poster is {adjective}.",
    "What the post shows is not {noun}.",
    "What the post shows is joy, not {noun}.",
    "The poster shows sadness but not {noun}.",
    "The poster shows sadness, not {noun}.",
    "The post shows stress rather than {noun}.",
    "The post is about stress instead of {noun}.",
    "Hardly anything in the post shows {noun}.",
    "Barely anything suggests that the poster is {adjective}.",
    "Scarcely a word suggests that the poster suffers from {noun}.",
    "Rarely does the post show {noun}.",
    "It is wrong to think that the poster is {adjective}.",
    "It would be inaccurate to say that the poster is {adjective}.",
    "To say that the poster is {adjective} would be wrong.",
    "To say that the poster is {adjective} goes too far.",
    "Saying that the poster is {adjective} would be an exaggeration.",
    "The poster is {adjective}? No.",
    "The poster is {adjective} only in jest.",
    "The poster jokes that the poster is {adjective}.",
    "The poster worries that the poster is {adjective}.",
    "The poster wonders if the poster is {adjective}.",
    "It may look as if the poster is {adjective}.",
    "It looks as though the poster is {adjective}, but that is irony.",
    "At first sight, the poster is {adjective}.",
    "Superficially, the poster is {adjective}.",
    "One might think that the poster is {adjective}.",
    "Some would say the poster is {adjective}.",
    "The title suggests that the poster is {adjective}, but the text does not.",
    "On paper the poster is {adjective}; in truth the poster is not {adjective}.",
)
"""None of these claims what it names."""

OF_NOUNS = tuple(sentence for sentence in NEVER_YES if "{adjective}" not in sentence)

NEVER_NO = (
    "There is no doubt that the poster suffers from {noun}.",
    "I have no doubt that the poster is {adjective}.",
    "I do not doubt that the poster is {adjective}.",
    "Nobody can doubt that the poster is {adjective}.",
    "It is not unlikely that the poster is {adjective}.",
    "There is nothing wrong with saying that the poster is {adjective}.",
    "Nothing helps, and the poster is {adjective}.",
    "Nothing helps and the poster is {adjective}.",
    "The poster cannot sleep and the post shows {noun}.",
    "The poster does not sleep and the post shows {noun}.",
    "The poster does not eat, and the poster is {adjective}.",
    "With nothing left to hope for, the poster is {adjective}.",
    "With nothing left to hope for the poster suffers from {noun}.",
    "The poster feels nothing, which shows {noun}.",
    "The poster feels nothing, which shows that they are {adjective}.",
    "The poster sees no future, which indicates that they suffer from {noun}.",
    "Not only is the poster sad, the poster suffers from {noun}.",
    "The poster does not fail to show {noun}.",
    "The post does not lack signs of {noun}.",
    "The post does not rule out that the poster is {adjective}.",
    "It is impossible to deny that the poster is {adjective}.",
    "It is undeniable that the poster is {adjective}.",
    "Undoubtedly the poster is {adjective}.",
    "No, wait. Yes, the poster suffers from {noun}.",
    "The poster never smiles because the poster is {adjective}.",
    "The poster no longer enjoys anything since the poster is {adjective}.",
    "The poster doesn't want to get up as the poster is {adjective}.",
    "The poster has no friends and suffers from {noun}.",
    "The poster has no energy and is {adjective}.",
    "The poster lacks energy and suffers from {noun}.",
    "Without help the poster suffers from {noun}.",
    "The lack of joy shows that the poster is {adjective}.",
    "The absence of joy shows that the poster is {adjective}.",
    "The poster is not fine; the poster is {adjective}.",
    "The poster is not fine: the poster is {adjective}.",
    "The poster is not fine, the poster is {adjective}.",
    "The poster's not okay. The poster is {adjective}.",
    "There is no other explanation than that the poster is {adjective}.",
    "There is no way around it: the poster is {adjective}.",
    "None of this is normal, so the poster is {adjective}.",
    "The poster cannot hide that the poster is {adjective}.",
    "The poster does not just feel sad but suffers from {noun}.",
    "The poster, who sees no way out, suffers from {noun}.",
    "The poster (not sleeping, not eating) suffers from {noun}.",
    "The poster suffers from {noun}, no question.",
    "{noun}: yes",
    "{adjective}",
    "{adjective}? Yes.",
    "{noun} is present in this post.",
    "Far from being well, the poster is {adjective}.",
    "Far from well, the poster suffers from {noun}.",
    "Rather than being lazy, the poster is {adjective}.",
    "Instead of being happy, the poster is {adjective}.",
    "Unlike others, the poster is {adjective}.",
    "The poster fails to see that the poster is {adjective}.",
    "The poster refuses to eat and is {adjective}.",
    "The poster rejects help and suffers from {noun}.",
)
"""None of these denies it."""

READ_AS_NO = (
    "Nothing in this post shows {noun}.",
    "None of this shows that the poster is {adjective}.",
    "Nowhere does the post show {noun}.",
    "I doubt that the poster suffers from {noun}.",
    "The poster is far from {adjective}.",
    "The post is free of {noun}.",
    "The post fails to show {noun}.",
    "It is unlikely that the poster is {adjective}.",
    "There is nothing that shows that the poster suffers from {noun}.",
    "Neither the tone nor the words suggest that the poster is {adjective}.",
    "I wouldn't call this {noun}.",
    "I see no evidence that the poster is {adjective}.",
)
"""These say so plainly enough to be read."""

NEVER_THE_NAME = (
    "It is not {name}.",
    "It's not {name}.",
    "This is not {name}.",
    "The cause is not {name}.",
    "The {topic} cause is not {name}.",
    "The label is not {name}.",
    "The answer is not {name}.",
    "Not {name}.",
    "{name} is not the cause.",
    "{name} is not the problem here.",
    "{name} isn't the issue.",
    "{name}? No.",
    "{name} can be ruled out.",
    "{name} does not fit.",
    "{name} is unlikely.",
    "{name} is mentioned but is not the cause.",
    "Nothing points to {name}.",
    "I doubt that it is {name}.",
    "Anything but {name}.",
    "Hardly {name}.",
    "I would rule out {name}.",
    "Rather than {name}, it is something else.",
    "The post does not fall under the category of {name}.",
    "It would be wrong to label this as {name}.",
    "I would not label this as {name}.",
    "I would not choose {name}.",
    "I would not go with {name}.",
    "{name}: no",
    "{name} - no",
    "{name}: unlikely",
    "No {name}.",
    "Neither {name} nor anything else.",
    "One might say {name}.",
    "It could be {name}.",
    "Perhaps {name}.",
    "Maybe {name}?",
    "{name}, perhaps?",
    "{name}?",
    "Unlikely to be {name}.",
    "The correct label is not {name}.",
    "The final answer is not {name}.",
    "The most fitting category is not {name}.",
    "The main cause of {topic} is hardly {name}.",
    "It is difficult to say that the cause of {topic} is {name}.",
    "I doubt that the {topic} cause is {name}.",
    "Nothing shows that the {topic} cause is {name}.",
    "None of this shows that the {topic} is caused by {name}.",
    "Nowhere does the post show the {topic} cause related to {name}.",
    "It fails to show that the {topic} is due to {name}.",
    "Far from {name}.",
    "Everything except {name}.",
    "{name} is out of the question.",
    "{name} was my first thought, but it does not fit.",
    "At first I thought {name}.",
    "At first glance, the label is {name}.",
    "If this were {name}, there would be a word about it.",
    "Is it {name}? No.",
    "Is this {name}? Hard to say.",
)
"""None of these gives the name as the label."""


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("sentence", NEVER_YES)
def test_a_denial_is_not_read_as_a_claim(name, sentence):
    noun, adjective = CONDITIONS[name]
    assert read_label(sentence.format(noun=noun, adjective=adjective), TASKS[name]) != "yes"


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("sentence", NEVER_NO)
def test_a_claim_is_not_read_as_a_denial(name, sentence):
    noun, adjective = CONDITIONS[name]
    assert read_label(sentence.format(noun=noun, adjective=adjective), TASKS[name]) != "no"


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("sentence", READ_AS_NO)
def test_a_plain_denial_is_read(name, sentence):
    noun, adjective = CONDITIONS[name]
    assert read_label(sentence.format(noun=noun, adjective=adjective), TASKS[name]) == "no"


@pytest.mark.parametrize(("name", "aspect", "noun"), NOUNS)
@pytest.mark.parametrize("sentence", OF_NOUNS)
def test_a_denial_of_a_dimension_or_risk_is_not_read_as_a_claim(name, aspect, noun, sentence):
    assert read_label(sentence.format(noun=noun), TASKS[name], aspect) != "yes"


@pytest.mark.parametrize(("name", "topic", "label"), NAMED)
@pytest.mark.parametrize("sentence", OF_NOUNS)
def test_a_denied_name_is_not_the_label(name, topic, label, sentence):
    noun = label if topic == label else f"the {topic} cause related to {label}"
    assert read_label(sentence.format(noun=noun), TASKS[name]) is None


@pytest.mark.parametrize(("name", "topic", "label"), NAMED)
@pytest.mark.parametrize("sentence", NEVER_THE_NAME)
def test_a_name_that_is_set_aside_is_not_the_label(name, topic, label, sentence):
    text = sentence.format(name=label, topic=topic)
    assert read_label(text[0].upper() + text[1:], TASKS[name]) is None


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("SWMH", "Nothing shows anxiety, it shows depression.", "depression"),
        ("SWMH", "The post does not show anxiety, it shows depression.", "depression"),
        ("T-SID", "This is depression rather than PTSD.", "depression"),
        ("CAMS", "The cause of depression is not medication but alienation.", "alienation"),
    ],
)
def test_what_stands_against_the_denied_name_is_read(name, text, label):
    assert read_label(text, TASKS[name]) == label
