"""The one exception that is meant for the reader of the terminal."""


class UserError(Exception):
    """A mistake in the configuration or in the input data, not in this program.

    The message is one line. It names the key, path or file at fault, says what was expected, and
    says what to do about it, so that it can be shown without a traceback.
    """
