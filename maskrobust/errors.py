"""Errors that are the user's to mend: their message is one sentence, which the command line prints as it is."""


class InputError(ValueError):
    """An argument, option or file is not what was expected.

    The message is one sentence: what was expected, what was given, and what to do.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])
