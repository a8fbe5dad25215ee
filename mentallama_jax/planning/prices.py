"""The price of a chip for an hour."""

from dataclasses import dataclass
from importlib import resources

from mentallama_jax.errors import UserError
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.strict_yaml import parse_yaml


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for an hour of one chip, and where they come from."""

    chip_hour: float
    source: str


@dataclass(frozen=True, slots=True)
class Rent:
    """Chips rented for a time.

    Attributes:
        seconds: (lower, upper); infinite where it is not known.
        chips: rented together.
        price: of each.
    """

    seconds: tuple[float, float]
    chips: int
    price: Price

    @property
    def hours(self) -> tuple[float, float]:
        """The hours that it takes, (lower, upper)."""
        return self.seconds[0] / 3600, self.seconds[1] / 3600

    @property
    def chip_hours(self) -> tuple[float, float]:
        """The hours of chips that are paid for, (lower, upper)."""
        return self.hours[0] * self.chips, self.hours[1] * self.chips

    @property
    def dollars(self) -> tuple[float, float]:
        """The dollars that they cost, (lower, upper)."""
        return self.chip_hours[0] * self.price.chip_hour, self.chip_hours[1] * self.price.chip_hour


def chip_price(topology: Topology, given: float | None) -> Price:
    """The price that the user gives, or that of the shipped table.

    Raises:
        UserError: neither says what such a chip costs.
    """
    if given is not None:
        return Price(given, "given")
    file = resources.files("mentallama_jax.planning") / "prices.yaml"
    table = parse_yaml(file.read_bytes(), file)
    if topology.family not in table["chip_hour"]:
        raise UserError(f"no price of {topology.family} is known; give one with --price DOLLARS, for a chip and hour")
    return Price(float(table["chip_hour"][topology.family]), f"list price of {table['as_of']}, check it")
