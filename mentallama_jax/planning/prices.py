"""The price of a chip for an hour."""

from dataclasses import dataclass
from importlib import resources

import yaml

from mentallama_jax.planning.topologies import Topology


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for an hour of one chip, and where they come from."""

    chip_hour: float
    source: str


def chip_price(topology: Topology, given: float | None) -> Price:
    """The price that the user gives, or that of the shipped table."""
    if given is not None:
        return Price(given, "given")
    table = yaml.safe_load((resources.files("mentallama_jax.planning") / "prices.yaml").read_text("utf-8"))
    return Price(float(table["chip_hour"][topology.family]), f"list price of {table['as_of']}, check it")
