"""The offices of the benchmark: what they are called, and which number a user means."""

from __future__ import annotations

from experiments.config.errors import UserError

OFFICES = ("CBS", "ISTAT", "ONS", "STATCAN")


def office_index(office: object) -> int:
    """The 0-based index of an office that is given by its index or by its name.

    Raises:
        UserError: it is neither.
    """
    if isinstance(office, str) and office.upper() in OFFICES:
        return OFFICES.index(office.upper())
    if type(office) is int and office >= 0:
        return office
    raise UserError(f"office must be a number from 0 or one of {', '.join(OFFICES)}; found {office!r}")
