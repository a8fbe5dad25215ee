"""Words of commands: tests change the options of a command that they share, as an option is given once."""


def changed(command: list[str], *more: str) -> list[str]:
    """The command with the options of `more` added, or put in the place of those that it has."""
    options = {word for word in more if word.startswith("--")}
    kept, dropping = [], False
    for word in command:
        if word.startswith("--"):
            dropping = word in options
        if not dropping:
            kept.append(word)
    return [*kept, *more]
