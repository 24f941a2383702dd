"""The two mistakes a user can make. The programs turn each into one line on standard error and an exit code."""


class ConfigError(ValueError):
    """The command or the configuration asks for something that cannot be run (exit code 2)."""


class DataError(ValueError):
    """A corpus, word-vector file, checkpoint or input text is missing or malformed (exit code 3).

    The message names the file and, where there is one, the line, and says what to do about it.
    """
