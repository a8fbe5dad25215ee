"""Asking a server that misbehaves: no row is lost, none is paid for twice, the limit of cost holds."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asked_rows import PRICES, remote, rows
from misbehaving_server import ANSWER_TOKENS, FAULTS, PROMPT_TOKENS, Books, plain_answer, server

from mentallama_jax.baselines.endpoints.chat_requests import ChatSettings
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.jobs.ask import ask_about, kept_path

COST = PRICES.cost(PROMPT_TOKENS, ANSWER_TOKENS)
CONCURRENCY = 16


def killed_run(url: str, count: int, out: Path, books: Books, kills: list[int]) -> None:
    """Run the program once for each number, and kill it when so many answers were delivered in all."""
    for enough in kills:
        command = [sys.executable, str(Path(__file__).with_name("asked_rows.py")), url, str(count), str(out)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as program:
            while sum(books.delivered.values()) < enough:
                assert program.poll() is None, "it ended before it was killed"
                time.sleep(0.001)
            os.kill(program.pid, signal.SIGKILL)


def check_killed_runs(tmp_path: Path, count: int, kills: list[int], seed: int) -> dict[str, float]:
    """Kill, finish, and compare the books of both sides."""
    out = tmp_path / "out.jsonl"
    with server(seed=seed, share=0.35, delay=0.02) as (url, books):
        killed_run(url, count, out, books, kills)
        assert not out.exists()
        before = sum(books.delivered.values())
        kept = kept_path(out).read_bytes().count(b'"key": ')
        found, predictions = ask_about(remote(url), rows(count), ["test"], out)
    assert [row.id for row in predictions] == [row.id for row in rows(count)]
    assert [row.id for row in read_predictions(out).rows] == [row.id for row in rows(count)]
    assert set(books.made.values()) == {1}
    assert len(books.made) == count  # billed: once for each request
    lost = before - kept
    assert 0 <= lost <= CONCURRENCY * len(kills)
    assert sum(books.delivered.values()) == count + lost  # what arrived and was kept is never delivered again
    assert found.spent == pytest.approx(count * COST)
    return {
        "answers": len(predictions),
        "billed": sum(books.made.values()),
        "delivered": sum(books.delivered.values()),
        "delivered_more_than_once": sum(times > 1 for times in books.delivered.values()),
        "attempts": sum(books.seen.values()),
        **{f"fault {name}": books.faults[name] for name in FAULTS},
    }


@pytest.mark.long
def test_after_two_kills_no_row_is_lost_and_none_is_paid_for_twice(tmp_path: Path) -> None:
    check_killed_runs(tmp_path, 40, [8, 24], seed=2)


@pytest.mark.slow
def test_five_hundred_requests_are_answered_once_though_the_program_is_killed_twice(tmp_path: Path) -> None:
    drawn = random.Random(7)
    print(check_killed_runs(tmp_path, 500, [drawn.randrange(50, 200), drawn.randrange(250, 450)], seed=3))


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with server(seed=1) as (url, books):
        assert ask_about(remote(url), rows(20), ["test"], out)[0].asked.new == 20
        files = [out.read_bytes(), out.with_suffix(".meta.json").read_bytes()]
        seen = sum(books.seen.values())
        out.unlink()
        assert ask_about(remote(url), rows(20), ["test"], out)[0].asked.new == 0
    assert sum(books.seen.values()) == seen
    assert [out.read_bytes(), out.with_suffix(".meta.json").read_bytes()] == files
    assert set(books.delivered.values()) == {1}


def test_the_limit_of_cost_is_never_passed_even_if_all_that_failed_is_billed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    limit = 0.008
    with server(seed=4) as (url, books):
        found, predictions = ask_about(remote(url, limit=limit), rows(60), ["test"], out)
        assert predictions == []
        assert found.asked.stopped.startswith("--max-cost 0.008: ")
        assert found.missing > 0
        assert 0 < found.spent + found.perhaps <= limit
        assert sum(books.made.values()) * COST <= limit
        again, _ = ask_about(remote(url, limit=limit), rows(60), ["test"], out)
        assert again.asked.new == 0
        assert again.spent == pytest.approx(found.spent)
        more, predictions = ask_about(remote(url, limit=1.0), rows(60), ["test"], out)
    assert len(predictions) == 60
    assert set(books.made.values()) == {1}
    assert more.spent + more.perhaps <= 1.0


def test_requests_are_many_at_a_time_and_no_more_than_asked_for(tmp_path: Path) -> None:
    with server(share=0.0, delay=0.05) as (url, books):
        ask_about(remote(url, pace={"concurrency": 4}), rows(16), ["test"], tmp_path / "out.jsonl")
    assert books.most_at_once == 4


def test_equal_requests_are_asked_once(tmp_path: Path) -> None:
    from dataclasses import replace

    twins = [replace(rows(1)[0], id=name) for name in ("a", "b", "c")]
    with server(share=0.0) as (url, books):
        _, predictions = ask_about(remote(url), twins, ["test"], tmp_path / "out.jsonl")
    assert [row.id for row in predictions] == ["a", "b", "c"]
    assert sum(books.seen.values()) == 1


def test_other_settings_models_and_prompts_are_asked_anew(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    with server(share=0.0) as (url, books):
        for number, changed in enumerate(
            ({}, {"model": "other"}, {"settings": ChatSettings(temperature=0.5)}, {"settings": ChatSettings(seed=1)})
        ):
            out = tmp_path / f"{number}.jsonl"
            assert ask_about(remote(url, **changed), rows(2), ["test"], out, kept=kept)[0].asked.new == 2
    assert len(books.seen) == 8


def test_predictions_that_were_made_otherwise_are_not_replaced(tmp_path: Path) -> None:
    from mentallama_jax.errors import UserError

    out = tmp_path / "out.jsonl"
    with server(share=0.0) as (url, books):
        out.write_text("{}\n")
        with pytest.raises(UserError, match="exists and was made otherwise"):
            ask_about(remote(url), rows(2), ["test"], out)
        assert not books.seen
        out.unlink()
        ask_about(remote(url), rows(2), ["test"], out)
        with pytest.raises(UserError, match="exists and was made otherwise"):
            ask_about(remote(url, model="other"), rows(2), ["test"], out)


@pytest.mark.parametrize("text", ["", None])
@pytest.mark.parametrize("finish", ["content_filter", "length"])
def test_an_answer_that_was_withheld_or_thought_away_is_an_answer(
    tmp_path: Path, text: str | None, finish: str
) -> None:
    with server(share=0.0, answer=lambda body: (text, finish)) as (url, books):
        _, predictions = ask_about(remote(url), rows(2), ["test"], tmp_path / "out.jsonl")
    assert [(row.generated_text, row.finish) for row in predictions] == [("", finish)] * 2
    assert set(books.seen.values()) == {1}


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    pace = {"concurrency": 2, "retries": 0}
    with server(share=1.0, faults=("500",)) as (url, books):
        found, predictions = ask_about(remote(url, pace=pace), rows(20), ["test"], tmp_path / "out.jsonl")
    assert predictions == []
    assert "requests in a row got no answer; last: HTTP status 500" in found.asked.stopped
    assert 3 <= sum(books.seen.values()) <= 5
    assert found.perhaps == 0  # refused with a status: not billed


def test_an_endpoint_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    with server() as (url, _):
        pass
    found, _ = ask_about(remote(url, pace={"retries": 0}), rows(3), ["test"], tmp_path / "out.jsonl")
    assert list(found.asked.unanswered) == ["the connection failed (ConnectError)"]
    assert (found.spent, found.perhaps, found.missing) == (0, 0, 3)


def test_an_answer_that_takes_too_long_may_have_to_be_paid(tmp_path: Path) -> None:
    with server(share=1.0, faults=("hang",)) as (url, _):
        pace = {"retries": 0, "timeout": 0.1}
        found, _ = ask_about(remote(url, pace=pace), rows(1), ["test"], tmp_path / "out.jsonl")
    assert list(found.asked.unanswered) == ["no answer in time (--timeout)"]
    assert found.perhaps > 0


def test_a_pause_that_one_request_is_told_holds_for_all(tmp_path: Path) -> None:
    with server(seed=5, share=0.5, faults=("429",)) as (url, books):
        start = time.monotonic()
        _, predictions = ask_about(remote(url), rows(30), ["test"], tmp_path / "out.jsonl")
    assert len(predictions) == 30
    assert books.faults["429"] > 5
    assert time.monotonic() - start > 0.05


def test_requests_and_tokens_a_minute_are_limited(tmp_path: Path) -> None:
    for number, pace in enumerate(({"requests_per_minute": 1200}, {"tokens_per_minute": 12 * 60 * 370})):
        with server(share=0.0) as (url, books):
            start = time.monotonic()
            ask_about(remote(url, pace=pace), rows(9), ["test"], tmp_path / f"{number}.jsonl")
        assert 0.3 < time.monotonic() - start < 5  # 8 waits of 0.05 s, and of about 0.08 s
        assert set(books.delivered.values()) == {1}


def test_what_is_sent_is_the_instruction_and_the_settings(tmp_path: Path) -> None:
    with server(share=0.0) as (url, books):
        ask_about(remote(url), rows(1), ["test"], tmp_path / "out.jsonl")
    (body,) = books.bodies
    question = 'Consider this post: "day 0 was grey" Question: Does the poster suffer from depression?'
    assert body == {
        "model": "toy",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 256,
        "temperature": 0.0,
        "seed": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }


def test_few_shot_examples_are_earlier_turns_and_are_recorded(tmp_path: Path) -> None:
    from mentallama_jax.imhi.prompting import Prompting
    from mentallama_jax.imhi.records import Record

    examples = (Record("e1", "DR", "sunny", "no", "It is sunny."), Record("e2", "DR", "dark", "yes", "It is dark."))
    prompting = Prompting(
        query=lambda record: f"? {record.post}", examples={"r0": examples}, choice="random", signature={"shots": 1}
    )
    notices: list[str] = []
    out = tmp_path / "out.jsonl"
    with server(share=0.0) as (url, books):
        _, predictions = ask_about(remote(url), rows(2), ["test"], out, prompting=prompting, on_notice=notices.extend)
    sent = {body["messages"][-1]["content"]: body["messages"] for body in books.bodies}
    assert [message["role"] for message in sent["? day 0 was grey"]] == ["user", "assistant"] * 2 + ["user"]
    assert {"? sunny", "? dark"} < {message["content"] for message in sent["? day 0 was grey"]}
    assert len(sent["? day 1 was grey"]) == 1
    assert set(predictions[0].examples) == {"e1", "e2"}
    assert predictions[1].examples == ()
    assert json.loads(out.with_suffix(".meta.json").read_text())["shots"] == 1
    assert any("and the posts of 2 examples" in line for line in notices)


def test_what_is_disguised_is_sent_and_predictions_are_of_the_original(tmp_path: Path) -> None:
    from dataclasses import replace

    from mentallama_jax.imhi.prompting import Prompting

    examples = {"r0": (replace(rows(2)[1], id="e"),)}
    out = tmp_path / "out.jsonl"
    with server(share=0.0) as (url, books):
        _, predictions = ask_about(
            remote(url),
            rows(1),
            ["test"],
            out,
            prompting=Prompting(examples=examples),
            disguise=lambda record: replace(record, post="hidden"),
        )
    assert "was grey" not in json.dumps(books.bodies)
    assert json.dumps(books.bodies).count("hidden") == 2
    assert predictions[0].post_id == rows(1)[0].post_id
    assert json.loads(out.with_suffix(".meta.json").read_text())["disguised"] is True


def test_the_signature_says_who_answered_and_how(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with server(share=0.0) as (url, _):
        ask_about(remote(url), rows(2), ["test"], out)
    meta = json.loads(out.with_suffix(".meta.json").read_text())
    assert meta["endpoint"] == url.removeprefix("http://").removesuffix("/v1")
    assert meta["served_models"] == {"toy-2026": 2}
    assert meta["settings"]["temperature"] == 0.0
    assert plain_answer({})[0].startswith("Yes")
    assert read_predictions(out).rows[0].new_tokens == ANSWER_TOKENS
