"""`mentallama ask`: consent, notices, prices, and a key that never shows, whatever fails."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from misbehaving_server import WRONG_KEY, server

from mentallama_jax.cli.main import main

KEY = "sk-planted-key-0451"
POST = "the zebra lantern is grey tonight"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        {"id": f"r{number}", "dataset": "DR", "post": f"{POST} {number}", "label": "yes", "split": "test"}
        for number in range(6)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ask(url: str, data: Path, *more: str) -> int:
    return main(["ask", "toy", "--endpoint", url, "--data", str(data), "--out", str(data.parent / "out.jsonl"), *more])


def test_a_notice_comes_first_and_nothing_leaves_the_machine_without_consent(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("mentallama_jax.jobs.ask.ask_all", lambda *_: pytest.fail("something was sent"))
    prices = ("--price-in", "1", "--price-out", "2")
    assert ask("http://api.example.invalid/v1", data, *prices, "--max-cost", "3") == 2
    said = capsys.readouterr().err
    assert "sent to: api.example.invalid (http: NOT encrypted, the key neither" in said
    assert "6 requests, for 6 rows (DR 6)" in said
    assert "cost: at most $0.00" in said
    assert "it stops before $3 in all" in said
    assert "for research only" in said
    assert "terms of the platforms" in said
    assert "error: nothing was sent: posts would leave this machine for api.example.invalid; give --send-posts" in said
    assert ask("https://api.example.invalid/v1", data, "--send-posts") == 2
    assert "the price of 'toy' is not known: give --price-in and --price-out" in capsys.readouterr().err


def test_a_server_of_this_machine_needs_no_consent_and_no_price(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.invalid:1")  # it must not see posts for this machine
    with server(share=0.0) as (url, books):
        assert ask(url, data, "--max-cost", "1") == 2
        assert "is not known" in capsys.readouterr().err
        assert ask(url, data, "--max-rows", "4") == 0
        out, err = capsys.readouterr()
    assert "this machine; what listens there may send it on" in err
    assert f"wrote 4 predictions to {data.parent / 'out.jsonl'} (4 answers now)" in out
    assert "next: mentallama evaluate" in out
    assert sum(books.seen.values()) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "refuses the key (HTTP status 401)"),
        ("500", "no answer to"),
        ("429", "no answer to"),
        ("quota", "insufficient_quota"),
        ("refused setting", "leave it out with --leave-out temperature"),
        ("too long", "refuses the request with HTTP status 400 (context_length_exceeded)"),
        ("redirect", "which is not followed"),
        ("no JSON", "an answer that is no JSON"),
        ("no choices", "an answer without choices or text"),
        ("cut", "the connection failed"),
        ("truncated", "the connection failed"),
        ("hang", "no answer in time (--timeout)"),
    ],
)
def test_neither_key_nor_posts_nor_what_a_server_says_shows_in_any_failure(
    fault: str,
    said: str,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai").setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does
    patience = ("--timeout", "0.2") if fault == "hang" else ()
    with server(share=1.0, faults=(fault,), echo=f"{KEY} {POST}") as (url, books):
        assert ask(url, data, "--key-variable", "PLANTED", "--retries", "0", *patience) == 1
    assert books.headers[0]["authorization"] == f"Bearer {KEY}"
    out, err = capsys.readouterr()
    assert said in err
    # A study shows the last line that begins so, and nothing else of a log.
    last = err.rstrip("\n").splitlines()[-1]
    assert last.startswith("error: 6 rows have no answer yet; ")
    assert said in last
    assert not (data.parent / "out.jsonl").exists()
    shown = out + err + caplog.text + "".join(file.read_text() for file in data.parent.iterdir() if file != data)
    for secret in (KEY, "sk-planted", "zebra lantern", "slow down", "oops"):
        assert secret not in shown


def test_what_a_client_raises_is_not_shown(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError(f"{KEY} {POST}")

    with server(share=0.0) as (url, _):
        monkeypatch.setattr("openai.AsyncOpenAI._build_request", fail)
        assert ask(url, data) == 1
    said = capsys.readouterr().err
    assert "no answer to 6 requests: the client failed (KeyError)" in said
    assert KEY not in said
    assert POST not in said


def test_a_wrong_key_stops_at_once(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", WRONG_KEY)
    with server(share=0.0) as (url, books):
        assert ask(url, data, "--concurrency", "1") == 1
    assert sum(books.seen.values()) == 1
    assert WRONG_KEY not in "".join(capsys.readouterr())


def test_posts_are_disguised_before_they_are_sent(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mentallama_jax.imhi.disguise.disguise_key import new_key

    key = data.parent / "keys" / "key"
    new_key(key)
    text = data.read_text().replace(POST, "write to me at lena.b@mail.example, I am grey")
    data.write_text(text)
    with server(share=0.0) as (url, books):
        assert ask(url, data, "--disguise") == 2
        assert ask(url, data, "--key-file", str(key)) == 2
        assert not books.seen
        assert ask(url, data, "--disguise", "--key-file", str(key)) == 0
    said = capsys.readouterr().err
    assert "--disguise needs a key: --key-file KEY" in said
    assert "--key-file goes with --disguise" in said
    assert "a search may find a post" in said
    assert "lena" not in json.dumps(books.bodies)
    assert "I am grey" in json.dumps(books.bodies)
    assert json.loads((data.parent / "out.meta.json").read_text())["disguised"] is True
    secret = key.read_text().strip()
    assert secret not in said + "".join(file.read_text() for file in data.parent.iterdir() if file.is_file())


def test_a_task_of_ones_own_is_asked_with_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, data, out = tmp_path / "task.yaml", tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    task.write_text(
        "name: schlaf\nlanguage: de\nquestion: Wie schläft die Person?\n"
        "labels:\n  gut: {sentence: Die Person schläft gut.}\n  wach: {sentence: Die Person liegt wach.}\n",
        "utf-8",
    )
    posts = [("Nacht für Nacht zähle ich Ziegen", "wach", "train"), ("Acht Stunden am Stück, herrlich", "gut", "train"),
             ("Der Wecker hat mich aus Träumen geholt", "gut", "test"),
             ("Um vier Uhr starre ich an die Decke", "wach", "test")]  # fmt: skip
    lines = [
        {"id": f"r{number}", "dataset": "schlaf", "post": post, "label": label, "split": split}
        for number, (post, label, split) in enumerate(posts)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def reader(body: Mapping[str, Any]) -> tuple[str, str]:
        awake = "Decke" in body["messages"][-1]["content"]
        return ("Die Person liegt wach." if awake else "Die Person schläft gut.") + " Reasoning: so.", "stop"

    tasks = ["--tasks", str(task)]
    rows = ["--data", f"{data}:test", "--shots", "1", "--shots-from", f"{data}:train", "--prompt", "zero-shot"]
    with server(share=0.0, answer=reader) as (url, books):
        assert main(["ask", "toy", "--endpoint", url, *rows, *tasks, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "and the posts of 2 examples with their explanations" in said.err
    assert f"next: mentallama evaluate {out} --tasks {task} --out SCORES" in said.out
    for body in books.bodies:
        assert [message["role"] for message in body["messages"]] == ["user", "assistant"] * 2 + ["user"]
        shown = dict(zip(*[iter(message["content"] for message in body["messages"][:4])] * 2, strict=True))
        assert {answer for post, answer in shown.items() if "Ziegen" in post} == {"Die Person liegt wach."}
        assert {answer for post, answer in shown.items() if "herrlich" in post} == {"Die Person schläft gut."}
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [set(row["examples"]) for row in found] == [{"r0", "r1"}] * 2
    assert main(["evaluate", str(out), *tasks, "--out", str(tmp_path / "scores")]) == 0
    assert json.loads((tmp_path / "scores/scores.json").read_text())["pooled"]["accuracy"] == 1.0


def test_options_out_of_range_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--concurrency", "0"), ("--timeout", "nan"), ("--max-new-tokens", "0"),
                          ("--temperature", "-1"), ("--max-cost", "-1"), ("--requests-per-minute", "0"),
                          ("--tokens-per-minute", "5"), ("--aspect", "social")):  # fmt: skip
        assert ask("http://127.0.0.1:9/v1", data, option, value, "--price-in", "0", "--price-out", "0") == 2
        assert option in capsys.readouterr().err
