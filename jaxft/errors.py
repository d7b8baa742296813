"""The one exception that a user is meant to see."""


class BadInput(Exception):
    """Something the user gave cannot be used.

    The message is one line: the file, line or key, what was found, and what is accepted. The command line prints it
    on stderr and exits with code 2; nothing else in the package prints it.
    """
