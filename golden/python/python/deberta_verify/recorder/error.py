"""What is said when nothing was recorded."""

from ..errors import DebertaError


class RecordError(DebertaError):
    """A golden that cannot be recorded faithfully. The message says what is wrong, and what to do. Nothing was written."""

    kind = "record"
