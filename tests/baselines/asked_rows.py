"""Rows and endpoints for tests, and a program that asks and may be killed: `python asked_rows.py URL ROWS OUT`."""

import sys
from pathlib import Path
from typing import Any

from mentallama_jax.baselines.endpoints.asking import Pace
from mentallama_jax.baselines.endpoints.endpoint import parse_endpoint
from mentallama_jax.baselines.endpoints.spending import Prices
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.ask import Remote, ask_about

PRICES = Prices(1.0, 2.0)


def rows(count: int) -> list[Record]:
    return [
        Record(f"r{number}", "DR", f"day {number} was grey", ("yes", "no")[number % 2], "", split="test")
        for number in range(count)
    ]


def remote(url: str, **values: Any) -> Remote:
    pace = Pace(**{"retries": 8, **values.pop("pace", {})})
    return Remote(**{"endpoint": parse_endpoint(url), "model": "toy", "prices": PRICES, "pace": pace, **values})


def main() -> None:
    url, count, out = sys.argv[1:]
    ask_about(remote(url), rows(int(count)), ["test"], Path(out))


if __name__ == "__main__":
    main()
