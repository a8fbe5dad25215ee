"""Renders one chat template, as a program of its own: a template is code of strangers, and may run or grow without end.

It says with a line that it is ready, reads JSON lines from stdin, first the template, then conversations, and answers
each with a line. It has no access
to this package; the sandbox is jinja2's, and memory and processor time are bounded by the system.
"""

import json
import resource
import sys
from typing import Any

_MEMORY = 1 << 30
_LONGEST = 1 << 24


def compile_template(source: str) -> Any:
    """The template in transformers' environment, but without its clock: prompts must not change by date."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant says; here its contents are rendered and nothing else."""

        tags = {"generation"}  # noqa: RUF012 (so declared in the base class)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


def answer(template: Any, question: dict[str, Any]) -> dict[str, str]:
    """The rendered text, or why there is none."""
    try:
        text = template.render(tools=None, documents=None, **question)
        if len(text) > _LONGEST:
            return {"error": f"renders {len(text):,} characters"}
        text.encode("utf-8")
    except MemoryError:
        return {"error": "needs more than 1 GB of memory"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {"text": text}


def main() -> None:
    """Answer until stdin ends."""
    import jinja2.sandbox  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    print(json.dumps({"ready": True}), flush=True)
    try:
        template = compile_template(json.loads(sys.stdin.readline()))
        first: dict[str, Any] = {"read": True}
    except Exception as error:
        template, first = None, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(template, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
