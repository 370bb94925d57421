"""The sections of a record that not every run has: what it promised, and how its updates were kept from the server.

Null and missing say different things here. A key that the run's code did not write is missing: it is `UNSET` where null
means something of its own (an infinite epsilon, say), else None. Neither is written again, so that a record goes back
to JSON with the keys it came with.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

Value = TypeVar("Value")
Nullable = float | None | UnsetType  # a number, null, or missing


def given(value: Value | UnsetType) -> Value | None:
    """A value, None where it is missing."""
    return None if isinstance(value, UnsetType) else value


class Section(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the sections: what is missing is not written."""


class Protection(Section, frozen=True, kw_only=True):
    """How updates were kept from the server, and the rounding it cost. `cost` has the seconds of the measured rounds;
    in the others of a simulation the same integers travelled in clear.

    Attributes:
        protocol: its name.
        assumption: what its secrecy rests on.
        sees: who learns what, by party.
        bits: width of a number on the wire.
        rounding: to the grid: nearest, feedback or stochastic.
        clip: largest absolute value of an entry that the grid held; `auto` where it followed what offices sent.
        min_offices: fewest that could add up to a sum.
        rounds: that ended.
        measured_rounds: how many of them were computed in earnest.
        measured_bytes_up, measured_bytes_down: of all offices in those.
        clipped_share: of the values, in [0, 1]; null where nobody counted.
        error: the largest of an entry of a mean; null where nobody looked.
        error_bound: of `error` where nothing is clipped.
        naive_encrypt_s, naive_decrypt_s: seconds of one update a number at a time, extrapolated.
        naive_sample: numbers they are extrapolated from.
    """

    protocol: str
    assumption: str | None = None
    sees: dict[str, str] | None = None
    bits: int | None = None
    rounding: str | None = None
    clip: float | str | None = None
    min_offices: int | None = None
    measured_rounds: int
    measured_bytes_up: int | None = None
    measured_bytes_down: int | None = None
    rounds: int | None = None
    clipped_share: Nullable = UNSET
    error: Nullable = UNSET
    error_bound: Nullable = UNSET
    naive_encrypt_s: float | None = None
    naive_decrypt_s: float | None = None
    naive_sample: int | None = None


class Group(Section, frozen=True, kw_only=True):
    """What a promise to one window comes to for several.

    Attributes:
        windows: how many.
        epsilon: null where it is infinite.
    """

    windows: int
    epsilon: float | None
    delta: float | None = None
    accountant: str | None = None


class PrivateOffice(Section, frozen=True, kw_only=True):
    """One office's own training under noise.

    Attributes:
        epsilon, epsilon_rdp: null where infinite.
        sampling_rate: share of its units in a step.
        units: windows or persons.
    """

    epsilon: float | None
    epsilon_rdp: Nullable = UNSET
    noise_multiplier: float | None = None
    sampling_rate: float | None = None
    steps: int
    units: int


class Promise(Section, frozen=True, kw_only=True):
    """What differential privacy claims, and all that the claim hangs on.

    Attributes:
        target_epsilon: that the noise was set for; null where the noise itself was given.
        epsilon: as spent; null where it is infinite.
        epsilon_rdp: the same by Renyi orders.
        clip_norm: null where nothing was clipped.
        mechanism: its name; `none` where a run was attacked that promised nothing.
        unit: of which two neighbours differ in one.
        simulated_units: as many units as the noise would be for, on the data of fewer; null where it is no simulation.
        observer: whom it holds against.
        noise: whose it was: own, shared or the server's.
        noise_source: `os`, or `reproducible` from the run's seed.
        public: what it takes to be known.
        steps: of the sums; those of the offices are theirs.
        group_person, group_signal: for all windows of a person, for the samples of one window.
        epsilon_integers: proved for the discrete noise; null where there is no such proof.
    """

    inner: str | None = None
    target_epsilon: Nullable = UNSET
    epsilon: float | None
    epsilon_rdp: Nullable = UNSET
    delta: float
    accountant: str | None = None
    orders: str | None = None
    relation: str | None = None
    noise_source: str | None = None
    clip_norm: Nullable = UNSET
    mechanism: str
    unit: str
    units: int | None = None
    simulated_units: int | UnsetType | None = UNSET
    observer: str | None = None
    noise: str | None = None
    sampling: str | None = None
    public: tuple[str, ...] | None = None
    noise_multiplier: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    offices: tuple[PrivateOffice, ...] | None = None
    group_person: Group | None = None
    group_signal: Group | None = None
    epsilon_integers: Nullable = UNSET


class Audit(Section, frozen=True, kw_only=True):
    """What an attack on the final model found: canaries, some of which were in, and guesses which.

    Attributes:
        unit: what a canary is.
        canaries, included: how many, and how many were in.
        guesses, right: how many, and how many of them hit.
        auc, tpr_at_1pct: of the scores; null where all canaries were in, or none.
        lower_bound, ceiling: of epsilon, with this `confidence` at this `delta`: by the guesses, and were all right.
        caveat: what the figures do not say.
    """

    unit: str | None = None
    canaries: int
    included: int
    guesses: int
    right: int
    auc: float | None
    tpr_at_1pct: float | None
    lower_bound: float
    ceiling: float
    confidence: float
    delta: float
    caveat: str | None = None


class Privacy(Promise, frozen=True, kw_only=True):
    """The promise of a run; that of the offices' own steps stands in it as `local` where the sums have one, too."""

    local: Promise | None = None
    audit: Audit | None = None
