"""The routes that read posts: the tasks that there are, and the analysis of a post by the question of one."""

import asyncio
from contextlib import aclosing
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.build import match_aspect
from mentallama_jax.imhi.tasks import TASKS, Task
from mentallama_jax.serving.api_errors import of_user_error, refuse
from mentallama_jax.serving.body_fields import BodyFields
from mentallama_jax.serving.exchange import HttpExchange
from mentallama_jax.serving.running_answers import RunningAnswers


async def list_tasks(exchange: HttpExchange) -> None:
    """Answer `GET /v1/tasks`."""
    await exchange.send_json({"tasks": [_described(task) for task in TASKS.values()]})


async def analyse_post(exchange: HttpExchange) -> None:
    """Answer `POST /v1/analyse`."""
    fields = BodyFields(await exchange.json_body())
    post, task, aspect = fields.required_text("post"), _task(fields), fields.text("aspect")
    abstain_below = fields.number("abstain_below", 0, 1) or 0.0
    fields.finish()
    _check_aspect(task, aspect)
    with exchange.service.engine.room(1):
        try:
            found = await exchange.while_here(_analysis(exchange, post, task, aspect, abstain_below))
        except UserError as error:
            raise of_user_error(error, param="post") from None
        await exchange.send_json(found)


async def _analysis(
    exchange: HttpExchange, post: str, task: Task, aspect: str | None, abstain_below: float
) -> dict[str, Any]:
    service = exchange.service
    analyser, answers = service.analyser, RunningAnswers(service, exchange.started)
    question = await asyncio.to_thread(analyser.question, post, task.name, aspect)
    scores = await answers.in_time(service.engine.scores(question))
    request = await asyncio.to_thread(analyser.explanation, question, scores)
    tokens: list[int] = []
    answer = None
    async with aclosing(answers.events([request])) as events:
        async for _, event in events:
            tokens += event.tokens
            answer = event.answer
    return await asyncio.to_thread(analyser.analysis, question, scores, tokens, answer, abstain_below)


def _task(fields: BodyFields) -> Task:
    name = TASKS.named(fields.required_text("task"))
    if name is None:
        refuse(f"there is no such task; known are {', '.join(TASKS)}", param="task", code="unknown_task")
    return TASKS[name]


def _check_aspect(task: Task, aspect: str | None) -> None:
    try:
        match_aspect(aspect or "", task)
    except UserError:
        about = f"one of {', '.join(task.aspects)}" if task.aspects else "none"
        refuse(f"{task.name} takes {about} as aspect", param="aspect", code="unknown_aspect")


def _described(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "question": task.question,
        "aspects": list(task.aspects),
        "labels": list(task.labels),
        "high_risk": list(task.high_risk),
    }
