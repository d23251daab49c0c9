"""The exceptions that are meant for the reader of the terminal."""


class UserError(Exception):
    """A mistake in the configuration or in the input data, not in this program.

    The message is one line. It names the key, path or file at fault, says what was expected, and
    says what to do about it, so that it can be shown without a traceback.
    """


def one_line(error: BaseException) -> str:
    """An error's type and message on one line of at most 200 characters."""
    text = str(error)
    if "pickle" in text:  # NumPy's advice, which is to trust the file.
        text = "no array of numbers, and objects are never unpickled"
    return " ".join(f"{type(error).__name__}: {text}".split())[:200]


class Preempted(Exception):  # noqa: N818 - an outcome, not an error
    """The run was asked to stop and has saved a checkpoint. The text is for the user."""
