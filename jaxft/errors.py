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
