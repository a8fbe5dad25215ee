"""Options of one value that are given once: argparse alone would let the last of several win without a word."""

import argparse
from collections.abc import Sequence
from typing import Any


class OnceParser(argparse.ArgumentParser):
    """A parser that refuses a second use of an option whose first value would be lost."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None, **options: Any) -> Any:
        """Parse, with no option given yet."""
        self._given.clear()
        return super().parse_known_args(args, namespace, **options)


class _StoreOnce(argparse._StoreAction):
    """Stores a value, or the values behind one option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = parser._given if isinstance(parser, OnceParser) else set()
        if self.option_strings and self.dest in given:
            several = self.nargs in ("*", "+")
            cure = "give all its values behind one" if several else "give one of them"
            raise argparse.ArgumentError(
                self, f"given twice, and takes {'one list' if several else 'one value'}; {cure}"
            )
        given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)
