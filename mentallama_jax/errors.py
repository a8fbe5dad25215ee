"""The one exception type whose message is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: a path, a key, a row, a missing extra.

    The message is one line that names the file, row, key or tensor and says what to do. The command
    line prints it as it is and exits with status 2; it never shows a traceback for it.
    """
