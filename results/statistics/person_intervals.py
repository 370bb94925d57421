"""Persons vary as seeds do. Two intervals that generalise to new persons, and what each takes as random.

Seeds by persons: d_sp = mean + seed_s + person_p + rest_sp, all random, over a full table of S seeds and P persons:

    MS_seed = P sum_s (d_s. - d..)^2 / (S - 1)     MS_person = S sum_p (d_.p - d..)^2 / (P - 1)
    MS_rest = sum_sp (d_sp - d_s. - d_.p + d..)^2 / ((S - 1)(P - 1))
    Var(d..) = (MS_seed + MS_person - MS_rest) / (S P)                  Searle, Casella and McCulloch 1992, section 4.3
    df       = (MS_seed + MS_person - MS_rest)^2
               / (MS_seed^2 / (S - 1) + MS_person^2 / (P - 1) + MS_rest^2 / ((S - 1)(P - 1)))        Satterthwaite 1946

Where a mean square falls below that of the rest, its effect would have a negative variance. It is then taken as 0 (the
mean square of the rest in its place), and df as no fewer than the shorter side has: the interval never falls below what
the rest alone leaves. Where seeds and persons vary far less than the rest it is too wide, covering up to 99 %.

Folds of persons: every person is tested once by a model of other persons, but the models share most of these, so that
the accuracies are correlated: about 1 / (persons trained on + 1)                             Nadeau and Bengio 2003
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from results.statistics.intervals import Interval, t_interval
from results.statistics.values import LEVEL, Floats, all_equal, finite, share, table


@dataclass(frozen=True)
class Crossed:
    """A mean over seeds and persons, both random. Unit: that of the table.

    Attributes:
        seeds, persons: S and P.
        mean: over the table, every person and seed alike.
        standard_error, df: of the mean; Satterthwaite's degrees of freedom.
        low, high, level: t interval.
        floored: the variance of seeds or of persons was estimated below 0 and taken as 0.
        sd_seed, sd_person, sd_rest: estimated standard deviations of the effects.
        pigeonhole_error: standard error by Owen's pigeonhole bootstrap.
        pigeonhole_low, pigeonhole_high: t interval with that error and the same df.
        degenerate: all values are equal.
    """

    seeds: int
    persons: int
    mean: float
    standard_error: float
    df: float
    low: float
    high: float
    level: float
    floored: bool
    sd_seed: float
    sd_person: float
    sd_rest: float
    pigeonhole_error: float
    pigeonhole_low: float
    pigeonhole_high: float
    degenerate: bool

    @property
    def half(self) -> float:
        """Half the width."""
        return self.high - self.mean


@dataclass(frozen=True)
class PersonCv:
    """Mean accuracy over persons who were each tested by a model that never saw them.

    Attributes:
        plain: t interval over persons, as if their models had nothing in common: too narrow.
        corrected: the same with Nadeau and Bengio's variance.
    """

    plain: Interval
    corrected: Interval


def crossed_interval(d: ArrayLike, level: float = LEVEL) -> Crossed:
    """t interval of the mean of a seeds x persons table, generalising to new seeds and new persons.

    Args:
        d: (S, P): differences, or levels, of each test person at each seed; S, P >= 2.

    Raises:
        ValueError: another shape, a value that is not finite, a level outside 0 to 1.
    """
    values = table(d, "seeds", "persons", (2, 2))
    s, p = values.shape
    mean = float(values.mean())
    if all_equal(values):
        mean = float(values[0, 0])  # summing equal values may move them
        return Crossed(s, p, mean, 0, min(s, p) - 1, mean, mean, level, False, 0, 0, 0, 0, mean, mean, True)
    of_seed, of_person, of_rest = _mean_squares(values)
    seed, person = max(of_seed, of_rest), max(of_person, of_rest)
    total = seed + person - of_rest
    error = np.sqrt(total / (s * p))
    spread = seed**2 / (s - 1) + person**2 / (p - 1) + of_rest**2 / ((s - 1) * (p - 1))
    df = max(float(total**2 / spread), min(s, p) - 1)
    t = stats.t.ppf((1 + share(level, "level")) / 2, df)
    pigeonhole = np.sqrt(pigeonhole_variance(values))
    return Crossed(
        seeds=s,
        persons=p,
        mean=mean,
        standard_error=float(error),
        df=df,
        low=float(mean - t * error),
        high=float(mean + t * error),
        level=level,
        floored=min(of_seed, of_person) < of_rest,
        sd_seed=float(np.sqrt((seed - of_rest) / p)),
        sd_person=float(np.sqrt((person - of_rest) / s)),
        sd_rest=float(np.sqrt(of_rest)),
        pigeonhole_error=float(pigeonhole),
        pigeonhole_low=float(mean - t * pigeonhole),
        pigeonhole_high=float(mean + t * pigeonhole),
        degenerate=False,
    )


def pigeonhole_variance(d: ArrayLike) -> float:
    """Variance of the mean when seeds and persons are resampled apart, without drawing one resample (Owen 2007).

        (1-1/S)(1-1/P) m^2 + (1-1/S) mean_p(b_p^2) / P + (1-1/P) mean_s(a_s^2) / S + mean(d^2) / (S P) - m^2

    with m the mean, a_s the means of seeds and b_p those of persons: two cells of a resample share neither, the
    person, the seed, or both. The rest counts about three times in it, so it errs on the wide side.

    Raises:
        ValueError: as `crossed_interval`.
    """
    values = table(d, "seeds", "persons", (2, 2))
    s, p = values.shape
    x = values - values.mean()  # the variance is that of the deviations, for which m = 0: no large terms to cancel
    a, b = x.mean(axis=1), x.mean(axis=0)
    shared = (1 - 1 / s) * (b**2).mean() / p + (1 - 1 / p) * (a**2).mean() / s
    return float(shared + (x**2).mean() / (s * p))


def person_cv(accuracy: ArrayLike, train_persons: float, level: float = LEVEL) -> PersonCv:
    """Mean over persons by folds, with the interval that new persons would need (Nadeau and Bengio 2003, section 3).

    Their variance of J correlated test results, `s^2 (1 / J + n_test / n_train)`, is taken with a person as the unit:
    J = P results of one person each, so n_test = 1. With folds as the unit (J = k, n_test / n_train = 1 / (k - 1)) it
    is the same for persons who vary independently: both widen the plain interval by sqrt(1 + k / (k - 1)).

    Args:
        accuracy: (P,) each person's, or (S, P) to be averaged over seeds first.
        train_persons: persons that trained each model, validation persons not counted (25 for 30 persons in 6 folds).

    Raises:
        ValueError: no values, one not finite, more than two axes, no training person, a level outside 0 to 1.
    """
    values = np.asarray(accuracy, dtype=float)
    if values.ndim not in (1, 2):
        raise ValueError(f"expected accuracies of shape (persons,) or (seeds, persons); found {values.shape}")
    if not train_persons >= 1:
        raise ValueError(f"expected one or more persons that trained each model; found {train_persons}")
    finite(values)
    plain = t_interval(np.atleast_2d(values).mean(axis=0), level)
    if plain.half is None:
        return PersonCv(plain, plain)
    half = plain.half * np.sqrt(1 + plain.n / train_persons)
    return PersonCv(plain, replace(plain, low=plain.mean - half, high=plain.mean + half))


def _mean_squares(values: Floats) -> tuple[float, float, float]:
    """Of seeds, of persons and of the rest."""
    s, p = values.shape
    x = values - values.mean()
    a, b = x.mean(axis=1), x.mean(axis=0)
    rest = x - a[:, None] - b
    return (
        float(p * (a**2).sum() / (s - 1)),
        float(s * (b**2).sum() / (p - 1)),
        float((rest**2).sum() / ((s - 1) * (p - 1))),
    )
