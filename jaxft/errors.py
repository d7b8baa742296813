"""What a user is meant to see: the one exception, and the one warning."""


class BadInput(Exception):
    """Something the user gave cannot be used.

    The message is one line: the file, line or key, what was found, and what is accepted. The command line prints it
    on stderr and exits with code 2; nothing else in the package prints it.
    """


class Note(UserWarning):
    """Something about the user's input that they should know, and that stops nothing.

    The message is one line. The command line prints it on stderr.
    """


def line(error: Exception) -> str:
    """Somebody else's error in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return " ".join(text.split())[:200]
