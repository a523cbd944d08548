"""Why a model can't be served, and exceptions as a person reads them."""


class ModelLoadError(Exception):
    """Raised when a model can't be served; the message is one line for the person who started the server."""


class GroupLost(BaseException):
    """Raised when the ranks of a model can't go on together. No step may be tried again, as after an Exception; whoever
    raises it sees to the process's end."""


def one_line(error: BaseException) -> str:
    """An exception's message on one line of at most 500 characters; its class's name where it has none."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return "a library ended the process: most often a package that it wants is not installed (see the log)"
    return " ".join(str(error).split())[:500] or type(error).__name__
