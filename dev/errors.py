"""The one error of this package: a sentence for the person at the terminal, with what to do."""


class DevError(Exception):
    """Shown as it is, without a traceback."""
