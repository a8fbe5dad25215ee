"""A corpus of made-up posts with planted identifiers of every kind, in many notations, drawn by a seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
NAMES = ("Sarah", "Tom", "Priya", "Jakub", "Ngozi", "Wei", "José", "Anne-Marie", "O'Brien", "Zoë", "Khadija", "Bjørn",
         "Emily", "Marcus", "Thalia", "Dmitri", "Yuki", "Lars", "Fatima", "Hamish", "Mei", "Oluwaseun")  # fmt: skip
SURNAMES = ("Miller", "Kowalski", "Okafor", "Tanaka", "McAllister", "van", "Lindqvist", "Garcia")
SMALL_NAMES = ("sarah", "tom", "emily", "josh", "megan", "kevin", "rachel")
STREETS = ("Oak", "Maple Ridge", "Elm", "St Mary's", "Kirkstall", "Martin Luther", "North Lincoln", "Baker", "5th")
STREET_ENDS = ("Street", "St", "St.", "Ave", "Avenue", "Road", "Rd", "Lane", "Drive", "Dr.", "Blvd", "Court", "Close")
SITES = ("imgur", "my-blog", "pastebin", "soundcloud", "somewhere", "lostandfound")
WORDS = ("blue", "kettle", "moth", "raven", "pixel", "sorrow", "quiet", "tiger", "lamp", "orbit")
FILL = (
    "I have not slept well for weeks.", "Nothing helps any more.", "Work has been hard lately.", "I feel so alone.",
    "They never listen to me.", "My head is full of noise.", "I cried on the bus again.", "It was a long winter.",
    "I don't know what to do.", "we fight every day about money", "The doctor gave me new pills.", "I failed 2 exams.",
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """An identifier and its place in a post."""

    kind: str
    notation: int
    start: int
    end: int


@dataclass(frozen=True)
class PlantedPost:
    """A post and what was planted in it."""

    text: str
    planted: tuple[Planted, ...]


Draw = Callable[[random.Random], str]


def _handle(draw: random.Random) -> str:
    form = draw.choice(("{}{}", "{}_{}", "{}-{}", "{}{}_"))
    return form.format(draw.choice(WORDS), draw.choice((*WORDS, str(draw.randint(1, 9999)))))


def _twitter(draw: random.Random) -> str:
    return f"{draw.choice(WORDS)}{draw.choice(('_', '', '.'))}{draw.choice(WORDS)}{draw.choice(('', '99', '_x'))}"


def _tagged(draw: random.Random) -> str:
    return f"{draw.choice(WORDS)}#{draw.randint(1000, 9999)}"


def _dotted(draw: random.Random) -> str:
    return f"{draw.choice(WORDS)}.{draw.choice(WORDS)}{draw.randint(1, 99)}"


def _name(draw: random.Random) -> str:
    return draw.choice(NAMES)


def _full_name(draw: random.Random) -> str:
    return f"{draw.choice(NAMES)} {draw.choice(SURNAMES).title()}"


def _small_name(draw: random.Random) -> str:
    return draw.choice(SMALL_NAMES)


def _url(draw: random.Random) -> str:
    return draw.choice((
        f"https://www.{draw.choice(SITES)}.com/{draw.choice(WORDS)}/{draw.randint(1, 9999)}?id={draw.randint(1, 99)}",
        f"http://{draw.choice(SITES)}.org",
        f"www.{draw.choice(SITES)}.co.uk/{draw.choice(WORDS)}",
        f"{draw.choice(SITES)}.com/{draw.choice(WORDS)}",
        f"youtu.be/{draw.choice(WORDS)}{draw.randint(1, 99)}",
        f"{draw.choice(SITES)}.net",
        f"https://old.reddit.com/r/{draw.choice(WORDS)}/comments/{draw.randint(1000, 99999)}/",
    ))  # fmt: skip


def _email(draw: random.Random) -> str:
    user = f"{draw.choice(WORDS)}{draw.choice(('.', '_', '', '+'))}{draw.choice(WORDS)}{draw.choice(('', '7', '84'))}"
    site = draw.choice(("gmail.com", "yahoo.co.uk", "some-school.edu", "mail.example.de", "outlook.com"))
    return draw.choice((
        f"{user}@{site}", f"{user.upper()}@{site}", f"{user} [at] gmail [dot] com", f"{user}(at)gmail(dot)com",
        f"{user} at gmail dot com", f"{user} @ gmail . com".replace(" . ", "."),
    ))  # fmt: skip


def _phone(draw: random.Random) -> str:
    area, first, last = draw.randint(201, 799), draw.randint(200, 999), draw.randint(0, 9999)
    return draw.choice((
        f"({area}) {first}-{last:04}", f"{area}-{first}-{last:04}",
        f"{area}.{first}.{last:04}", f"{area} {first} {last:04}",
        f"+1 {area} {first} {last:04}", f"1-{area}-{first}-{last:04}", f"{area}{first}{last:04}",
        f"+44 7{draw.randint(100, 999)} {draw.randint(100000, 999999)}",
        f"07{draw.randint(100, 999)} {draw.randint(100000, 999999)}",
        f"020 {draw.randint(7000, 7999)} {last:04}", f"+49 151 {draw.randint(1000000, 9999999)}",
        f"+91-98765-{draw.randint(10000, 99999)}",
        f"+33 6 {draw.randint(10, 99)} {draw.randint(10, 99)} {draw.randint(10, 99)} {draw.randint(10, 99)}",
    ))  # fmt: skip


def _address(draw: random.Random) -> str:
    text = f"{draw.randint(1, 9999)} {draw.choice(STREETS)} {draw.choice(STREET_ENDS)}".removesuffix(".")
    unit = draw.choice(("", "", ", Apt 4B", " Unit 12", ", Flat 3", " #7", ", Suite 210"))
    return (text.lower() if draw.random() < 0.25 else text) + unit


def _us_postcode(draw: random.Random) -> str:
    return f"{draw.randint(10000, 99999)}" + draw.choice(("", "", f"-{draw.randint(1000, 9999)}"))


def _uk_postcode(draw: random.Random) -> str:
    return draw.choice(("SW1A 2AA", "M1 1AE", "LS6 3HN", "EH12 9DN", "B33 8TH", "W1K 7TR", "NG7 2RD"))


def _canadian_postcode(draw: random.Random) -> str:
    return draw.choice(("K1A 0B1", "M5V 3L9", "V6B4Y8", "H2X 1Y4"))


def _age(draw: random.Random) -> str:
    return str(draw.randint(11, 68))


def _age_words(draw: random.Random) -> str:
    return draw.choice(("nineteen", "twenty-three", "thirty four", "forty", "sixteen", "twenty one"))


def _date(draw: random.Random) -> str:
    month, day, year = draw.randint(1, 12), draw.randint(1, 28), draw.randint(2001, 2023)
    ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}.get(day, "th")
    name = MONTHS[month - 1]
    return draw.choice((
        f"{name} {day}, {year}", f"{name} {day}{ending}", f"{day} {name} {year}", f"{day}{ending} of {name}",
        f"{name[:3]} {day}{ending} {year}", f"{year}-{month:02}-{day:02}", f"{month:02}/{day:02}/{year}",
        f"{month}/{day}/{year % 100:02}", f"{day:02}.{month:02}.{year}", f"{day}-{month}-{year}",
        f"{day} {name[:3]} {year}", f"{name} {year}", f"{name} the {day}{ending}", f"{name[:3]}. {day}, {year}",
        f"the {day}{ending} of {name.lower()}"[4:], f"{name.lower()} {day}{ending}", f"{day}-{name[:3]}-{year}",
    ))  # fmt: skip


def _short_date(draw: random.Random) -> str:
    return f"{draw.randint(1, 8)}/{draw.randint(13, 28)}"


def _time(draw: random.Random) -> str:
    hour, minute = draw.randint(1, 12), draw.randint(0, 59)
    return draw.choice((f"{hour}:{minute:02} pm", f"{hour}{draw.choice(('am', 'pm'))}", f"{hour + 11:02}:{minute:02}",
                        f"{hour}:{minute:02}AM", f"{hour} p.m"))  # fmt: skip


def _year(draw: random.Random) -> str:
    return str(draw.randint(1955, 2009))


def _sub(draw: random.Random) -> str:
    return draw.choice(
        ("depression", "offmychest", "SuicideWatch", "raisedbynarcissists", "ADHD", "relationship_advice")
    )


# Kind, the words around it with {} for the identifier, and how the identifier is drawn.
NOTATIONS: tuple[tuple[str, str, Draw], ...] = (
    ("handle", "u/{} told me to write here.", _handle),
    ("handle", "Thanks to /u/{} for the advice!", _handle),
    ("handle", "follow @{} please", _twitter),
    ("handle", "RT @{}: no one gets it", _twitter),
    ("handle", "add me on snap: {}", lambda draw: f"{draw.choice(WORDS)}_{draw.randint(1, 99)}"),
    ("handle", "My discord is {} if you want to talk.", _tagged),
    ("handle", "my instagram is {}.", _dotted),
    ("subreddit", "I posted this on r/{} too.", _sub),
    ("subreddit", "crossposted from /r/{}, sorry", _sub),
    ("subreddit", "(x-post from r/{})", _sub),
    ("name", "Hi {}, I saw your text.", _name),
    ("name", "Dear {},\nI never told you this.", _full_name),
    ("name", "hey {}! how are you", _small_name),
    ("name", "Hello {}.", _name),
    ("name", "My name is {} and I am tired.", _full_name),
    ("name", "my name is {}, nobody knows", _small_name),
    ("name", "my name's {} btw", _name),
    ("name", "I'm called {} by everyone.", _name),
    ("name", "I have a friend named {} who left.", _name),
    ("name", "a girl called {} was there", _name),
    ("name", "My sister {} is no help.", lambda draw: draw.choice(("Sarah", "Emily", "Marcus", "Thalia"))),
    ("name", "Good morning {}, it is me.", _name),
    ("name", "Call me {}.", _name),
    ("name", "Ask Dr. {} about it.", lambda draw: draw.choice(("Miller", "Kowalski", "Okafor", "Tanaka"))),
    ("name", "Please write back.\nLove,\n{}\n", _name),
    ("name", "See you.\nKind regards,\n{}\n", _full_name),
    ("name", "Take care, {}\n", _name),
    ("name", "{} here, back again.", _name),
    ("name", "Hi, {} here.", _name),
    ("name", "This is {}, I wrote last week.", _name),
    ("name", "Signed, {}", _name),
    ("name", "Hi {} and others,", _name),
    ("name", "My name? {}. Nobody asks.", _name),
    ("url", "Look at {} for the whole story.", _url),
    ("url", "it is all here: {}.", _url),
    ("url", "([link]({}))", _url),
    ("e-mail", "Write to {} if you can.", _email),
    ("e-mail", "email: {}, any time", _email),
    ("phone", "You can call me at {}.", _phone),
    ("phone", "my number is {}, text me", _phone),
    ("phone", "Tel: {}", _phone),
    ("address", "I live at {}.", _address),
    ("address", "we moved to {} last spring", _address),
    ("address", "Send it to {}, please.", lambda draw: f"P.O. Box {draw.randint(10, 9999)}"),
    ("postcode", "We are in Springfield, IL {}.", _us_postcode),
    ("postcode", "my zip code is {}", _us_postcode),
    ("postcode", "The flat is in {} now.", _uk_postcode),
    ("postcode", "I grew up around {}.", _canadian_postcode),
    ("age", "I'm {} and still at home.", _age),
    ("age", "I am {} years old.", _age),
    ("age", "i'm a {} year old guy", _age),
    ("age", "My {}-year-old brother hates me.", _age),
    ("age", "I ({}F) am lost.", _age),
    ("age", "my boyfriend (M{}) left", _age),
    ("age", "[{} M] and alone", _age),
    ("age", "My wife ({}) does not know.", _age),
    ("age", "{}yo student here", _age),
    ("age", "{} y/o here.", _age),
    ("age", "It began at the age of {}.", _age),
    ("age", "When I was {}, my dad died.", _age),
    ("age", "I just turned {}.", _age),
    ("age", "she is {} and he is worse", _age),
    ("age", "Since I was {} I have felt this.", _age),
    ("age", "i'm a {} female", _age),
    ("age", "I am {} years old now.", _age_words),
    ("age", "aged {}, never had a job", _age),
    ("age", "{}/f here", _age),
    ("age", "Age: {}", _age),
    ("age", "i'm turning {} next week", _age),
    ("age", "I'm a {}M with no friends", _age),
    ("age", "My daughter turned {} in spring.", _age),
    ("age", "I was born in {}.", _year),
    ("age", "It was my {} birthday.", lambda draw: draw.choice(("18th", "21st", "33rd", "52nd", "16th"))),
    ("date", "It happened on {}.", _date),
    ("date", "He left me {} and I broke.", _date),
    ("date", "({}) I wrote this down", _date),
    ("date", "We met on {} at school.", _short_date),
    ("date", "We met on {} at 10:30 pm in a bar.", _date),
    ("time", "On March 3 at {} he left me.", _time),
    ("time", "It was {} on 2019-07-04 when it began.", _time),
    ("platform", "{}: thanks for all the answers", lambda draw: draw.choice(("Edit", "EDIT", "edit 2", "Edited"))),
    ("platform", "I am new to {}, be kind.", lambda draw: draw.choice(("reddit", "Reddit", "this subreddit"))),
    ("platform", "Sorry for the {} account.", lambda draw: draw.choice(("throwaway", "throw away"))),
    ("platform", "{} I am done with this.", lambda draw: draw.choice(("TL;DR", "tl;dr", "TLDR", "tldr"))),
    ("platform", "{} because I need advice.", lambda draw: draw.choice(("Crosspost", "x-posting", "Cross-posted"))),
)  # fmt: skip


def planted_corpus(seed: int, posts: int) -> list[PlantedPost]:
    """Posts of harmless sentences with two to five planted identifiers each; notations are taken in turns."""
    draw = random.Random(seed)
    made, turn = [], 0
    for _ in range(posts):
        pieces: list[str] = []
        planted: list[Planted] = []
        length = 0
        for place in range(draw.randint(2, 5)):
            if place or draw.random() < 0.5:
                pieces.append(draw.choice(FILL) + " ")
                length += len(pieces[-1])
            kind, sentence, drawn = NOTATIONS[turn % len(NOTATIONS)]
            before, behind = sentence.split("{}")
            value = drawn(draw)
            start = length + len(before)
            # A part of what is drawn may be harmless: "this" of "this subreddit".
            harmless = len("this ") if value.startswith("this ") else 0
            planted.append(Planted(kind, turn % len(NOTATIONS), start + harmless, start + len(value)))
            pieces.append(before + value + behind + (" " if not behind.endswith("\n") else ""))
            length += len(pieces[-1])
            turn += 1
        made.append(PlantedPost("".join(pieces), tuple(planted)))
    return made


CLEAN = (
    "I was 5 minutes late and she yelled at me.",
    "I'm 100% sure that it was my fault.",
    "I am 6 months pregnant and I'm 5'4\" tall.",
    "I have spent 3 years on the road to nowhere.",
    "It is a 2 way street and I gave up.",
    "We slept 4 hours close to the door.",
    "I work 24/7 and earn 12.50 an hour.",
    "It costs $1,200.50 a month, 30 days of pay.",
    "He rated it 10/10 and I gave it 7.5.",
    "I ate 1/2 of the cake and felt sick.",
    "Call 988 or 1-800-273-8255 when you are in danger.",
    "You can text HOME to 741741, or ring 116 123.",
    "Hi everyone, thank you for reading.",
    "Hello all, sorry for the rant.",
    "Hey guys! I hope you are well.",
    "Hi there, I am new here.",
    "Dear diary, today was bad.",
    "Hey y'all, quick question.",
    "Hi Doc, the pills do not help.",
    "My mom will call me tomorrow.",
    "My brother may join the army.",
    "My friend is grace itself.",
    "I may 2 times out of 3 be wrong.",
    "They march on and on.",
    "I read a book called Toxic Parents.",
    "There is a condition called Misophonia.",
    "I feel called to help.",
    "I'm called lazy by everybody.",
    "My name is on the list.",
    "My name is not important here.",
    "I am so tired. Thanks, everyone!",
    "Thank you so much. Love you all",
    "I can't go on. - Anonymous",
    "e.g. the bus, i.e. the number 12.",
    "I sat at the window. It rained.",
    "He said no.me neither.",
    "I got a B+ and an A-.",
    "and/or whatever; w/o a reason; his/her choice",
    "I am 1 of 3 kids.",
    "I was 2nd in line.",
    "It has been 10 years since it began.",
    "I lost 20 lbs in 3 weeks.",
    "There were 40 people in the room.",
    "I take 50 mg of it at 9 pm.",
    "I wake up at 3:30 am every day.",
    "My grade was 3.8 of 4.0.",
    "Chapter 12 made me cry.",
    "My score is 13 to 2.",
    "In 2019 I was fine.",
    "I grew up in the 90s.",
    "I'm in my 20s and lost.",
    "We are in our mid 30s.",
    "I have 2 dogs and 1 cat.",
    "It is @ the end of the road.",
    "I would edit my life if I could.",
    "I posted a letter to my bank.",
    "The post office is closed.",
    "She is on top of it.",
    "It was the first of many fights.",
    "I turned 180 degrees and left.",
    "Windows 10 crashed on me again.",
    "I counted to 100 and breathed.",
    "We had been together for 8 years.",
    "I am on 20 different pills.",
    "It was a long drive home.",
    "I saw 3 men drive past our place.",
)
"""Sentences that hold nothing of what is looked for, though they look like it."""
