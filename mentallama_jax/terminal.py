"""What is shown on a terminal: names and texts of strangers appear as they are, and steer nothing."""

from typing import Any

import rich.console
from rich.text import Text

from mentallama_jax.foreign import printable


class Console(rich.console.Console):
    """The console that everything is printed with: no text is taken for markup or emoji, in tables neither.

    A folder may be called `[/x]` and a model `[red]`. Control characters are shown by their codes. For styles pass
    `style`, or `markup=True` with a text that holds nothing foreign.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """End quietly where nobody reads on, as after `| head`."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(141) from None
