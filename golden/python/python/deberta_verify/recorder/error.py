"""What is said when nothing was recorded."""


class RecordError(Exception):
    """A golden that cannot be recorded faithfully. The message says what is wrong, and what to do. Nothing was written."""
