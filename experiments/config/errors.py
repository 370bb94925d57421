"""What a user did wrong, told so that they can mend it.

Every room raises its own kind (`PartitionError`, `DataError`, ...), all of them `ValueError`s; the command line
prints the text and exits with 2, without a traceback. Anything else that reaches the command line is a defect of ours
and shows one.
"""


class UserError(ValueError):
    """The value found, what was expected, where, and what to do."""
