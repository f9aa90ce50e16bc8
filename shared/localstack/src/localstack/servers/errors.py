"""What goes wrong with a server of our own; the text says what to do."""


class ServerError(Exception):
    """A server cannot be found, started or stopped as asked."""
