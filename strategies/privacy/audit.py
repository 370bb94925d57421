"""A privacy claim under attack: what scores of units that were trained on, and of units that were not, prove.

A score is any number an attacker computes for a unit, larger where the unit more likely took part. Two readings:

- `auc` and `true_positive_rate` describe an attack. They bound no epsilon.
- One run (Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run, NeurIPS 2023, theorem 5.2). m canaries
  are each in with probability 1/2, and an attacker who may abstain makes r guesses, r fixed ahead. If the training is
  (epsilon, delta) private, the number V of right guesses has, with W ~ Binomial(r, 1 / (1 + e^-epsilon)),

      P[V >= v] <= P[W >= v] + 2 m delta max_{1 <= i <= v} P[v - i <= W < v] / i

  The largest epsilon at which the right side is still at most 1 - confidence is refuted, and all below it. Every guess
  right gives the *ceiling*, which says how little one run can refute: 100 guesses end at 3.5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, expit

Floats = NDArray[np.float64]

LARGEST_EPSILON = 50.0  # one guess in e^50 wrong: more guesses than anyone makes cannot refute it


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """The probability, in [0, 1], that a member scores above another unit; ties count a half.

    Args:
        members: scores (n,) of units that were trained on.
        others: scores (k,) of units that were not.

    Raises:
        ValueError: no scores, or scores that are not numbers.
    """
    above, below = _scores("members", members), np.sort(_scores("others", others))
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")  # twice
    return float(wins.mean()) / (2 * below.size)


def true_positive_rate(members: ArrayLike, others: ArrayLike, false_positive_rate: float = 0.01) -> float:
    """The largest share of members above a threshold that at most this share of the others is above.

    No interpolation: with fewer than 100 others, 1 % allows none above.

    Args:
        members: scores (n,) of units that were trained on.
        others: scores (k,) of units that were not.
        false_positive_rate: in [0, 1).

    Raises:
        ValueError: no scores, scores that are not numbers, or a rate out of range.
    """
    if not 0 <= false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must be at least 0 and below 1; found {false_positive_rate}")
    above, below = _scores("members", members), np.sort(_scores("others", others))
    return float((above > _threshold(below, false_positive_rate)).mean())


def right_guesses(scores: ArrayLike, included: ArrayLike, guesses: int) -> int:
    """How many of the guesses are right: the highest scores are guessed in, as many of the lowest out.

    Args:
        scores: (m,), one a canary, in an order that knows nothing of who is in: it decides between equal scores. (Do
            not put the members first.)
        included: (m,) of bool, who was in.
        guesses: r, 1..m, fixed before the scores are seen: the best of several r proves nothing. The rest is
            abstained from; an odd one is guessed in.

    Raises:
        ValueError: lengths that differ, scores that are not numbers, `included` not bool, or guesses out of range.
    """
    ranked, was_in = _scores("scores", scores), np.asarray(included)
    if was_in.dtype != np.bool_ or was_in.shape != ranked.shape:
        raise ValueError(
            f"included must hold one bool for each of {ranked.size} scores; found {was_in.dtype} {was_in.shape}"
        )
    _check_guesses(0, guesses, ranked.size)
    order = np.argsort(ranked, kind="stable")
    out = guesses // 2
    return int((~was_in[order[:out]]).sum() + was_in[order[ranked.size - (guesses - out) :]].sum())


def one_run_lower_bound(right: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """The epsilon >= 0 that one run refutes: with this confidence the training is not (epsilon, delta) private.

    Args:
        right: v, 0..guesses, as `right_guesses` counts them.
        guesses: r, 1..canaries, fixed before the scores were seen.
        canaries: m, each in with probability 1/2 independently of all else.
        delta: in [0, 1).
        confidence: in (0, 1), of this one statement.

    Raises:
        ValueError: an argument out of range.
    """
    _check_guesses(right, guesses, canaries)
    _check_confidence(confidence)
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be at least 0 and below 1; found {delta}")

    def excess(epsilon: float) -> float:
        return _p_value(right, guesses, canaries, epsilon, delta) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, LARGEST_EPSILON, xtol=1e-9))


def one_run_ceiling(guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """What `one_run_lower_bound` gives if every guess is right: no attack on this many guesses refutes more."""
    return one_run_lower_bound(guesses, guesses, canaries, delta, confidence)


def _p_value(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Largest probability of this many right guesses, or more, under (epsilon, delta); may exceed 1."""
    wrong = guesses - right
    # Counted in wrong guesses, r - W ~ Binomial(r, 1 / (1 + e^epsilon)): their probability keeps its digits.
    at_most: Floats = bdtr(np.arange(wrong, guesses + 1, dtype=np.float64), guesses, expit(-epsilon))
    if right == 0:
        return float(at_most[0])
    steps = np.arange(1, right + 1)
    alpha = float(((at_most[1:] - at_most[0]) / steps).max())  # P[v - i <= W < v] / i
    return float(at_most[0]) + 2 * canaries * delta * alpha


def _above(count: int, share: float) -> int:
    """How many of `count` scores may lie above the threshold of this share < 1; at least one lies at it."""
    return min(math.floor(share * count + 1e-9), count - 1)  # 0.29 * 100 is 28.999...


def _threshold(ascending: Floats, share: float) -> float:
    """The least score that at most this share of the scores is above."""
    return float(ascending[ascending.size - 1 - _above(ascending.size, share)])


def _scores(name: str, values: ArrayLike) -> Floats:
    found: NDArray[Any] = np.asarray(values, np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"{name} must be a list of scores, at least one; found the shape {found.shape}")
    if np.isnan(found).any():
        raise ValueError(
            f"{name} holds {int(np.isnan(found).sum())} scores that are not a number: a run that failed is no evidence"
        )
    return found


def _check_guesses(right: int, guesses: int, canaries: int) -> None:
    if not (1 <= guesses <= canaries and 0 <= right <= guesses):
        raise ValueError(
            f"need 0 <= right <= guesses <= canaries and one guess at least; found {right}, {guesses} and {canaries}"
        )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, both excluded; found {confidence}")
