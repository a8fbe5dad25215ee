"""The page in a real browser, in front of a stand-in of the server: what is shown, to whom, and what is kept."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import AXE, CHROMIUM, NAMES, Browser, Tab
from stand_in import StandIn, analysis, error

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation" / "trust"))
from risk_examples import DANGER, NO_DANGER

from mentallama_jax.evaluation.trust.risk_words import evened

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)}; set CHROMIUM")
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="no axe-core: `npm install --no-save axe-core` here, or set AXE_CORE"
)

CALM = "The exams are close and I sleep badly, but my sister cooks for me."
DANGEROUS = "I want to kill myself."
SHOWN = "!document.getElementById('answer').hidden"
FAILED = "!document.getElementById('failure').hidden"
LATER = "Please try again in a moment."
UNKNOWN = "The server answered in a form that this page does not know."
FIRST = "document.getElementById('help').parentElement.id === 'care'"


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


@pytest.fixture
def server(running: StandIn) -> StandIn:
    running.going_on.set()  # what waits from the test before ends
    running.reset()
    return running


@pytest.fixture
def tab(browser: Browser, server: StandIn) -> Iterator[Tab]:
    """The page, loaded; at the end it must have complained about nothing."""
    opened = opened_page(browser, server)
    yield opened
    assert opened.complaints() == []
    assert all(address.startswith(server.url) for address in opened.asked())
    opened.close()


def opened_page(browser: Browser, server: StandIn, **options) -> Tab:
    tab = browser.open(server.url, **options)
    tab.wait("document.querySelectorAll('#country option').length > 2")
    tab.wait(f"document.querySelectorAll('#task option').length > 2 || {FAILED}")
    return tab


def choose(tab: Tab, field: str, value: str) -> None:
    tab.run(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById('{field}'))"
    )


def paste(tab: Tab, post: str) -> None:
    tab.run("(e => { e.focus(); e.select(); })(document.getElementById('post'))")
    tab.type(post)


def read(tab: Tab, post: str, *, task: str = "SAD", until: str = SHOWN) -> None:
    """Have a post read, and wait for what is to be seen then."""
    choose(tab, "task", task)
    paste(tab, post)
    tab.run("document.getElementById('send').click()")
    tab.wait(f"running === null && {until}")


def test_it_shows_label_chances_reasons_and_quotes(tab, server):
    read(tab, CALM)
    assert server.asked == [{"post": CALM, "task": "SAD", "aspect": None, "abstain_below": 0}]
    assert tab.text("#asked") == "What is the stress cause of this post?"
    assert tab.text("#verdict") == "The model reads this post as: school"
    assert tab.run("[...document.querySelectorAll('#chances li')].map(e => e.innerText)")[:2] == [
        "school\n90 %", "financial problem\n1 %",
    ]  # fmt: skip
    assert tab.run("document.querySelector('.fill.most').style.width") == "90%"
    assert "Not calibrated" in tab.text("#calibrated")
    assert 'The post says "The exams"' in tab.text("#explanation")
    assert tab.text("#marked") == CALM
    assert tab.run("[...document.querySelectorAll('mark')].map(e => e.textContent)") == ["The exams"]
    assert tab.text("#quotes") == "The exams"
    assert not tab.run(FIRST)
    assert tab.text("footer").startswith("The model here is <i>toy</i>. Labels and questions")


def test_notice_stands_in_view_wherever_the_page_is_scrolled(tab):
    read(tab, CALM + "\n" * 3 + CALM * 20)
    for width, height in ((1280, 900), (390, 844), (320, 256)):
        tab.look(width, height)
        tab.run("window.scrollTo(0, document.body.scrollHeight)")
        box = tab.run("(b => [b.top, b.bottom])(document.getElementById('notice').getBoundingClientRect())")
        assert 0 <= box[0] < box[1] < height / 4
        assert tab.shown(".to-help")
    assert tab.text("#notice").startswith("For research only. Not a diagnosis, not advice")


def test_nothing_is_phrased_as_a_diagnosis(tab):
    read(tab, CALM, task="DR")
    assert tab.text("#verdict") == "The model reads this post as: yes"
    assert "no finding about a person" in tab.text("#verdict-note")
    said = tab.text("#answer").lower()
    assert not any(word in said for word in ("you have", "you are", "diagnosed", "patient"))


def test_abstention_is_said_plainly_and_no_label_stands_out(tab, server):
    server.analyse = lambda asked: (200, analysis(asked, abstained=True, confidence=0.62), {})
    choose(tab, "threshold", "0.8")
    read(tab, CALM)
    assert server.asked[0]["abstain_below"] == 0.8
    assert tab.text("#verdict") == "The model abstains: it is not sure enough to answer."
    assert "62 %" in tab.text("#verdict-note")
    assert tab.run("document.querySelectorAll('.chosen').length") == 0
    assert "abstains" in tab.text("#said")


def test_words_of_danger_show_lines_first_before_anything_is_answered(tab, server):
    server.analyse = lambda asked: None
    choose(tab, "task", "SAD")
    paste(tab, DANGEROUS)
    tab.run("document.getElementById('send').click()")
    tab.wait(FIRST)
    assert tab.shown("#waiting")
    assert "Samaritans, 116 123" in tab.run("document.getElementById('said').textContent")
    assert "words in the post" in tab.text("#help-why")
    server.going_on.set()
    tab.wait(SHOWN)
    assert tab.run(FIRST)
    before = "document.getElementById('help').compareDocumentPosition(document.getElementById('answer'))"
    assert tab.run(f"Boolean({before} & Node.DOCUMENT_POSITION_FOLLOWING)")
    assert tab.run("document.getElementById('said').getAttribute('role')") == "status"


def test_lines_are_shown_first_even_where_the_server_fails(tab, server):
    server.analyse = lambda asked: error(500, "no more memory")
    read(tab, DANGEROUS, until=FAILED)
    assert tab.run(FIRST)
    assert tab.shown("#lines")


def test_lines_are_shown_first_where_the_tasks_cannot_be_had(browser, server):
    server.tasks_reply = error(503, "starting")
    tab = opened_page(browser, server)
    paste(tab, DANGEROUS)
    tab.run("document.getElementById('send').click()")
    tab.wait(FIRST)
    tab.wait(FAILED)
    assert "Samaritans" in tab.text("#lines")
    tab.close()


def test_lines_are_shown_first_as_long_as_the_words_of_danger_are_not_there(browser, server, monkeypatch):
    with monkeypatch.context() as lacking:
        lacking.delitem(server.files, "/care.json")
        tab = browser.open(server.url)
        tab.wait("document.querySelectorAll('#task option').length > 2")
        server.analyse = lambda asked: error(500, "no more memory")
        read(tab, CALM, until=FAILED)
        assert tab.run(FIRST)
        assert "findahelpline.com" in tab.text("#lines")
    server.analyse = lambda asked: (200, analysis(asked), {})
    read(tab, CALM)
    tab.wait("document.querySelectorAll('#country option').length > 2")
    read(tab, DANGEROUS)
    assert tab.run(FIRST)
    assert "Samaritans" in tab.text("#lines")
    tab.close()


def test_a_label_of_high_risk_shows_lines_first_and_the_next_post_puts_them_back(tab):
    read(tab, CALM, task="DR")
    assert tab.run(FIRST)
    assert "the model’s reading" in tab.text("#help-why")
    assert "Crisis lines are shown first" in tab.run("document.getElementById('said').textContent")
    read(tab, CALM, task="SAD", until=f"{SHOWN} && !({FIRST})")
    assert tab.text("#help-why") == ""
    assert tab.shown("#lines")


def test_the_browser_finds_the_same_words_of_danger_as_the_server(tab):
    posts = [*DANGER, *NO_DANGER, *(f"Café… {post}\u200b\n\nذهبت! ＩＴ’s" for post in DANGER[:5])]
    assert (
        tab.run(f"{json.dumps(posts)}.map(speaksOfRisk)")
        == [True] * len(DANGER) + [False] * len(NO_DANGER) + [True] * 5
    )
    assert tab.run(f"{json.dumps(posts)}.map(evened)") == list(map(evened, posts))


@pytest.mark.parametrize(
    ("language", "country", "number"),
    [("en-US", "US", "988"), ("de", "DE", "0800 1110111"), ("fr-FR", "FR", "3114"), ("is-IS", "", "findahelpline.com")],
)
def test_lines_are_those_of_the_country_of_the_browser(browser, server, language, country, number):
    tab = opened_page(browser, server, language=language)
    assert tab.run("document.getElementById('country').value") == country
    assert number in tab.text("#lines")
    assert "findahelpline.com" in tab.text("#lines")
    choose(tab, "country", "ES")
    assert "024" in tab.text("#lines")
    assert tab.run("document.querySelector('#lines a').href") == "tel:024"
    assert "112" in tab.text("#emergency")
    assert "Nobody has checked" in tab.text("#lines-note")
    tab.close()


def test_text_of_others_stays_text(tab, server):
    attack = '<img src=x onerror="window.caught=1"><script>window.caught=1</script>{{7*7}} \u202eevil'
    chances = {attack: 0.7, "__proto__": 0.2, "no": 0.1}
    server.analyse = lambda asked: (
        200,
        analysis(
            asked, label=attack, probabilities=chances, confidence=0.7, explanation=attack, notice=attack,
            quotes=[{"text": attack, "start": 0, "end": 9}, {"text": "x", "start": -5, "end": 10**9}],
        ),
        {},
    )  # fmt: skip
    read(tab, attack)
    assert tab.run("window.caught === undefined && document.querySelectorAll('main img, main script').length === 0")
    assert tab.run("document.getElementById('verdict').textContent").endswith(attack)
    assert tab.run("document.getElementById('marked').textContent") == attack
    assert tab.run("document.querySelectorAll('#chances li').length") == 3
    server.analyse = lambda asked: error(400, attack)
    read(tab, CALM, until=FAILED)
    assert tab.run("document.getElementById('failure-text').textContent") == attack
    assert tab.run("window.caught === undefined")


def test_names_of_tasks_stay_text(browser, server):
    attack = "<b onclick=alert(1)>task</b>"
    task = {"name": attack, "question": attack, "aspects": [attack], "labels": [attack, "no"], "high_risk": []}
    server.tasks_reply = (200, {"tasks": [task] * 1}, {})
    tab = browser.open(server.url)
    tab.wait("document.querySelectorAll('#task option').length === 1")
    assert tab.run("document.querySelectorAll('main b').length") == 0
    assert attack in tab.text("#question")
    assert tab.shown("#aspect-field")
    tab.close()


def test_offsets_count_characters_in_any_script(tab, server):
    posts = {
        "😀😀 tired 𝒕𝒐𝒅𝒂𝒚, she said": "tired 𝒕𝒐𝒅𝒂𝒚",
        "لا أستطيع النوم منذ أسبوع": "النوم منذ",
        "我最近睡不着觉,很累": "睡不着",
        "a\u200b\u200bb\u200c tired e\u0301 of it": "tired e\u0301",
        "line one\nline two\n\nline  three": "two\n\nline",
    }
    for post, quote in posts.items():
        start = post.index(quote)
        found = [{"text": quote, "start": start, "end": start + len(quote)}]
        server.analyse = lambda asked, found=found: (200, analysis(asked, quotes=found), {})
        read(tab, post)
        assert tab.run("document.getElementById('marked').textContent") == post
        assert tab.run("document.querySelector('mark').textContent") == quote
    assert [asked["post"] for asked in server.asked] == list(posts)
    direction = "getComputedStyle(document.getElementById('{}')).direction"
    read(tab, next(post for post in posts if post.startswith("لا")))
    assert [tab.run(direction.format(name)) for name in ("post", "marked", "verdict")] == ["rtl", "rtl", "ltr"]


@pytest.mark.parametrize("post", ["", "   \n\t ", "\u200b\u200d\ufeff \u2060"])
def test_a_post_of_nothing_is_not_sent(tab, server, post):
    paste(tab, post)
    tab.press("Enter", control=True)
    assert tab.text("#post-error") == "Please paste a post first."
    assert tab.run("document.getElementById('post').getAttribute('aria-invalid')") == "true"
    assert tab.focus() == "post"
    assert server.asked == []
    paste(tab, CALM)
    assert tab.run("document.getElementById('post').getAttribute('aria-invalid')") is None


def test_a_very_long_post_is_sent_whole_and_fits_the_page(tab, server):
    post = "Sleepless again. " * 6000 + "w" * 3000
    tab.look(390, 844)
    read(tab, post)
    assert server.asked[0]["post"] == post
    assert "105,000 characters: more than most models read" in tab.text("#count")
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.run("document.getElementById('marked').clientHeight") < 500
    server.analyse = lambda asked: error(413, "body over 1 MiB")
    read(tab, post, until=FAILED)
    assert tab.text("#failure-title") == "The post is too long for this server."


@pytest.mark.parametrize(
    ("reply", "title", "text"),
    [
        (error(400, "aspect: give one of two"), "The server did not take this request.", "aspect: give one of two"),
        (error(429, "queue full", Retry_After="7"), "The server is busy.", "Please try again in 7 seconds."),
        (error(500, ""), "Something went wrong on the server.", ""),
        (error(503, "stopping"), "The server is not ready.", "It is starting or stopping. " + LATER),
        (error(504, "time"), "The model took too long.", "A shorter post may help."),
        ((502, b"<html>Bad gateway</html>", {}), "Something went wrong on the server.", ""),
        ((200, b"{", {}), "The answer cannot be read.", UNKNOWN),
        ((200, {"label": "yes"}, {}), "The answer cannot be read.", UNKNOWN),
    ],
    ids=["400", "429", "500", "503", "504", "no JSON", "cut JSON", "another form"],
)  # fmt: skip
def test_failures_are_said_in_words(tab, server, reply, title, text):
    server.analyse = lambda asked: reply
    read(tab, CALM, until=FAILED)
    assert (tab.text("#failure-title"), tab.text("#failure-text")) == (title, text)
    assert title in tab.text("#said")
    assert not tab.shown("#answer")
    assert tab.run("document.getElementById('post').value") == CALM
    server.analyse = lambda asked: (200, analysis(asked), {})
    tab.run("(e => e.checkVisibility() ? e.click() : send())(document.getElementById('again'))")
    tab.wait(SHOWN)
    assert not tab.shown("#failure")


def test_a_server_that_is_gone_is_said_and_the_lines_stay(browser, server):
    other = StandIn()
    tab = opened_page(browser, other)
    other.close()
    read(tab, CALM, until=FAILED)
    assert tab.text("#failure-title") == "The server cannot be reached."
    assert "Samaritans" in tab.text("#lines")
    tab.close()


def test_tasks_that_cannot_be_had_are_asked_for_again(browser, server):
    server.tasks_reply = error(503, "starting")
    tab = opened_page(browser, server)
    assert tab.text("#failure-title") == "The server is not ready."
    server.tasks_reply = None
    tab.run("document.getElementById('again').click()")
    tab.wait("document.querySelectorAll('#task option').length > 2")
    assert not tab.shown("#failure")
    tab.close()


def test_a_key_is_asked_for_only_where_the_server_wants_one(browser, server, tab):
    assert not tab.shown("#key-field")
    server.key = "open sesame"
    guarded = opened_page(browser, server)
    assert guarded.shown("#key-field")
    assert guarded.text("#failure-title") == "This server wants a key."
    guarded.run("document.getElementById('key').focus()")
    guarded.type("open sesame")
    guarded.run("document.getElementById('again').click()")
    guarded.wait("document.querySelectorAll('#task option').length > 2")
    read(guarded, CALM)
    assert "open sesame" not in guarded.run("document.documentElement.outerHTML")
    guarded.close()


def test_cancel_stops_the_request_and_says_so(tab, server):
    server.analyse = lambda asked: None
    choose(tab, "task", "SAD")
    paste(tab, CALM)
    tab.run("document.getElementById('send').click()")
    tab.wait("!document.getElementById('cancel').hidden")
    assert tab.shown("#progress")
    assert tab.run("document.getElementById('send').getAttribute('aria-disabled')") == "true"
    tab.run("document.getElementById('send').click()")
    tab.run("(e => { e.focus(); e.click(); })(document.getElementById('cancel'))")
    tab.wait("running === null")
    assert server.left.wait(10)
    assert len(server.asked) == 1
    assert tab.text("#said") == "Stopped."
    assert tab.focus() == "post"  # where it was when the post was sent
    assert not tab.shown("#cancel")
    assert not tab.shown("#waiting")
    assert tab.run("document.getElementById('post').value") == CALM


def test_clear_while_the_model_reads_leaves_nothing_behind(tab, server):
    server.analyse = lambda asked: None
    choose(tab, "task", "SAD")
    paste(tab, DANGEROUS)
    tab.run("document.getElementById('send').click()")
    tab.wait(FIRST)
    tab.run("document.getElementById('clear').click()")
    assert server.left.wait(10)
    assert tab.focus() == "post"
    assert "kill" not in tab.run("document.documentElement.outerHTML + document.getElementById('post').value")
    assert not tab.run(FIRST)
    assert tab.shown("#nothing")


def test_nothing_typed_is_kept(tab, server):
    read(tab, "Marker-4711 " + CALM, task="DR")
    assert tab.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert tab.run("location.href") == server.url
    assert tab.run("JSON.stringify(history.state)") == "null"
    assert tab.run("indexedDB.databases().then(found => found.length)") == 0
    assert not any("4711" in line for line in server.seen)
    fields = "[...document.querySelectorAll('input, textarea, select, form')]"
    assert tab.run(f"{fields}.every(e => e.getAttribute('autocomplete') === 'off')")
    tab.run("window.dispatchEvent(new PageTransitionEvent('pagehide'))")
    assert "4711" not in tab.run("document.documentElement.outerHTML + document.getElementById('post').value")


def test_the_keyboard_alone_is_enough(tab, server):
    def on_to(wanted: str) -> list[str]:
        way = []
        while not way or way[-1] != wanted:
            tab.press("Tab")
            way.append(tab.focus())
            assert len(way) < 12
            assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
        return way

    assert on_to("post") == ["skip", "to-help", "post"]
    tab.type(CALM)
    on_to("task")
    tab.press("s")
    assert tab.run("document.getElementById('task').value") == "SWMH"
    assert on_to("send") == ["threshold", "send"]
    server.analyse = lambda asked: None
    tab.press("Enter")
    tab.wait("!document.getElementById('cancel').hidden")
    tab.press("Escape")
    tab.wait("running === null")
    assert tab.focus() == "send"
    server.reset()
    tab.press(" ")
    tab.wait(SHOWN)
    assert on_to("marked") == ["clear", "marked"]
    assert on_to("country")[-1] == "country"
    tab.press("Tab")
    assert tab.run("document.activeElement.href") == "tel:999"
    tab.run("document.querySelector('.to-help').focus()")
    tab.press("Enter")
    tab.wait("document.activeElement.id === 'help' || location.hash === '#help'")
    box = tab.run("(b => [b.top, innerHeight])(document.getElementById('help-title').getBoundingClientRect())")
    assert 0 < box[0] < box[1]


def test_focus_goes_to_the_answer_when_its_button_has_gone(tab, server):
    server.analyse = lambda asked: None
    paste(tab, CALM)
    tab.run("document.getElementById('send').click()")
    tab.wait("!document.getElementById('cancel').hidden")
    tab.run("document.getElementById('cancel').focus()")
    server.going_on.set()
    tab.wait(SHOWN)
    tab.wait("document.activeElement.id === 'answer-title'")


def test_aspects_are_asked_for_where_a_task_has_them(tab, server):
    assert not tab.shown("#aspect-field")
    choose(tab, "task", "IRF")
    assert tab.shown("#aspect-field")
    choose(tab, "aspect", "perceived burdensomeness")
    assert "Does the post show risk of perceived burdensomeness?" in tab.text("#question")
    paste(tab, CALM)
    tab.press("Enter", control=True)
    tab.wait(SHOWN)
    assert server.asked[0]["aspect"] == "perceived burdensomeness"
    assert tab.text("#asked") == "Does the post show risk of perceived burdensomeness?"


def states(tab: Tab, server: StandIn) -> Iterator[str]:
    """Bring the page into each of its states, one after the other."""
    yield "empty"
    tab.press("Tab")
    tab.press("Enter", control=True)
    tab.run("send()")
    yield "no post"
    read(tab, CALM + "\n" + CALM * 30)
    yield "result"
    read(tab, DANGEROUS, task="DR")
    yield "risk"
    server.analyse = lambda asked: (200, analysis(asked, abstained=True, confidence=0.6, quotes=[]), {})
    read(tab, CALM, task="IRF")
    yield "abstained"
    server.analyse = lambda asked: error(401, "no key")
    read(tab, CALM, until=FAILED)
    yield "error"
    server.analyse = lambda asked: None
    paste(tab, CALM)
    tab.run("void send()")
    tab.wait("!document.getElementById('waiting').hidden")
    yield "waiting"


@pytest.mark.long
@needs_axe
def test_axe_finds_no_violation_in_any_state(tab, server):
    found = {}
    for state in states(tab, server):
        for width in (390, 1280):
            for dark in (False, True):
                tab.look(width, dark=dark)
                found[state, width, dark] = tab.violations()
                assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert not any(found.values()), {state: faults for state, faults in found.items() if faults}
    assert len(found) == 28


@needs_axe
def test_axe_finds_faults_where_they_are(tab):
    tab.run("document.getElementById('post').removeAttribute('id')")
    tab.run("document.querySelector('.lead').style.color = '#eee'")
    assert {each.split(":")[0] for each in tab.violations()} >= {"label", "color-contrast"}


def test_wishes_for_less_motion_and_dark_are_kept(tab, server):
    for _ in (state for state in states(tab, server) if state == "waiting"):
        assert tab.shown("#progress")
        tab.look(still=True)
        assert not tab.shown("#progress")
        assert tab.shown("#waiting")
        background = "getComputedStyle(document.body).backgroundColor"
        light = tab.run(background)
        tab.look(dark=True)
        assert tab.run(background) != light


def test_the_answer_prints_without_the_form(tab):
    read(tab, DANGEROUS + "\n" + CALM * 100, task="DR")
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert not tab.shown("#ask")
    assert not tab.shown(".to-help")
    assert all(map(tab.shown, ("#notice", "#answer", "#help", "#lines")))
    assert tab.run("(e => e.scrollHeight <= e.clientHeight)(document.getElementById('marked'))")
    assert tab.pdf().startswith(b"%PDF")
