"""Exceptions whose message is for the user."""


class UserError(Exception):
    """A mistake in the configuration or in the input data, not in this program.

    The message is one line and is shown without a traceback. It names the key, path or file, and
    says what was expected and what to do.
    """


def one_line(error: BaseException) -> str:
    """An error's type and message on one line of at most 200 characters."""
    text = str(error)
    if "pickle" in text:  # NumPy advises to trust the file; we do not.
        text = "no array of numbers, and objects are never unpickled"
    return " ".join(f"{type(error).__name__}: {text}".split())[:200]


class Preempted(Exception):  # noqa: N818 - an outcome, not an error
    """The run was asked to stop, and has saved a checkpoint."""
