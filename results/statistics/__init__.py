"""Intervals and tests for a handful of seeds. Pure functions of numbers; every one names its source.

    values         what comes in is checked here; levels that hold everywhere
    intervals      one mean, one new run, the least difference that would be seen
    pairs          two strategies over the same seeds
    improvement    how often one beats the other
    families       all strategies of a cell: against FedAvg, and against the best
    persons        seeds by persons; folds of persons
    ranking        strategies over cells
    simulate       how often the above are right on made-up sweeps: `python -m results.statistics`

Values may be in any unit; what comes out is in the same. Chances and levels are in 0 to 1.
"""

from results.statistics.families import BestSet, StepDown, best_set, step_down
from results.statistics.improvement import Improvement, paired_probability_of_improvement, probability_of_improvement
from results.statistics.intervals import (
    BCA_FROM,
    Interval,
    half_width,
    least_detectable,
    mean_interval,
    prediction_interval,
    t_interval,
)
from results.statistics.pairs import EXACT, Paired, hedges_factor, paired, sign_flip
from results.statistics.person_intervals import Crossed, PersonCv, crossed_interval, person_cv, pigeonhole_variance
from results.statistics.ranking import Ranks, critical_difference, ranks
from results.statistics.values import LEVEL, POWER, SIGNIFICANCE

__all__ = [
    "BCA_FROM",
    "EXACT",
    "LEVEL",
    "POWER",
    "SIGNIFICANCE",
    "BestSet",
    "Crossed",
    "Improvement",
    "Interval",
    "Paired",
    "PersonCv",
    "Ranks",
    "StepDown",
    "best_set",
    "critical_difference",
    "crossed_interval",
    "half_width",
    "hedges_factor",
    "least_detectable",
    "mean_interval",
    "paired",
    "paired_probability_of_improvement",
    "person_cv",
    "pigeonhole_variance",
    "prediction_interval",
    "probability_of_improvement",
    "ranks",
    "sign_flip",
    "step_down",
    "t_interval",
]
