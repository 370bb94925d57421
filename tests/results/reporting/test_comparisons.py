"""Claims, best sets and ranks: small inputs whose answers are known, and what may not be claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest

from experiments.config.spec import label_skewed
from results.frame import frames
from results.record import RunRecord
from results.reporting.render import to_csv
from results.reporting.study import Study, studies
from results.reporting.subjects.comparisons import best_table, compared, differences_table, ranks_table
from results.reporting.subjects.persons import levels
from results.reporting.tables import score_table
from results.statistics import (
    crossed_interval,
    half_width,
    paired_probability_of_improvement,
    probability_of_improvement,
)
from tests.results.builder import only_study, record

NOISE = (0.3, -0.2, 0.1, 0.4, -0.5, 0.2, -0.1, 0.5, -0.3, -0.4, 0.25, -0.15)  # points; sum 0.1 over twelve


def run(score: float, persons: Sequence[float] | None = None, **changes: object) -> RunRecord:
    """A record with a score in percent, and with accuracies of 100 rows a person."""
    made = record(**changes)
    assert made.final is not None
    held = None if persons is None else {str(place): (round(one), 100) for place, one in enumerate(persons)}
    final = msgspec.structs.replace(made.final, score=score / 100, test_correct_by_person=held)
    return msgspec.structs.replace(made, final=final)


def against_fedavg(
    gains: dict[str, float], seeds: int, partition: str = "iid", spread: float = 1.0
) -> Iterator[RunRecord]:
    """FedAvg at 80 + seed, every other strategy its gain and its own noise above it."""
    for seed in range(seeds):
        yield run(80 + seed, strategy="fedavg", seed=seed, partition=partition)
        for place, (strategy, gain) in enumerate(gains.items()):
            noise = spread * NOISE[(seed + 3 * place) % seeds]
            yield run(80 + seed + gain + noise, strategy=strategy, seed=seed, partition=partition)


def claims(study: Study) -> dict[str, str]:
    return dict(zip(compared(study)["strategy"], compared(study)["claim"], strict=True))


def test_a_claim_needs_significance_ten_pairs_and_a_detectable_size() -> None:
    gains = {"a": 2.0, "b": -2.0, "c": 0.02}
    assert claims(only_study(against_fedavg(gains, 10))) == {"a": "better", "b": "worse", "c": ""}
    # Nine seeds: the same differences, p = 2 / 2^9 = 0.004, and no claim.
    found = compared(only_study(against_fedavg(gains, 9)))
    assert found["p_step_down"].min() == pytest.approx(2 / 2**9)
    assert set(found["claim"]) == {""}


@pytest.mark.parametrize("partition", ["shards(classes=2)", "dirichlet_even(alpha=0.3)", "dirichlet(alpha=0.1)"])
def test_skewed_labels_take_thirty_seeds(partition: str) -> None:
    gains = {"a": 2.0, "b": -2.0}
    ten = only_study(against_fedavg(gains, 10, partition))
    assert compared(ten)["p_step_down"].max() == pytest.approx(2 / 2**10), "nothing is wrong with the test"
    assert claims(ten) == {"a": "", "b": ""}
    table = best_table(ten)
    assert table is not None
    assert table.shown.loc[0, "Best set"] == "fewer than 30 seeds"


EVEN = ("iid", "dirichlet_even(alpha=0.5)", "dirichlet(alpha=10.0)", "quantity(alpha=0.1)", "by_person")
UNEVEN = ("shards(classes=5)", "dirichlet(alpha=0.3)", "dirichlet_even(alpha=1e-05)", "majority(ratio=1)")


def test_seeds_that_a_claim_takes() -> None:
    study = only_study(record(partition=partition) for partition in (*EVEN, *UNEVEN))
    assert study.claim_seeds == dict.fromkeys(EVEN, 10) | dict.fromkeys(UNEVEN, 30)


def test_older_records_are_asked_for_by_their_notation() -> None:
    older = [unsaid(record(partition=partition)) for partition in (*EVEN, *UNEVEN)]
    assert [study.claim_seeds for study in studies(frames(older, label_skewed=label_skewed))] == [
        dict.fromkeys(EVEN, 10) | dict.fromkeys(UNEVEN, 30)
    ]
    assert set(only_study(older).claim_seeds.values()) == {30}, "the careful answer of who cannot ask"


def test_one_record_that_says_so_speaks_for_all_of_its_partition() -> None:
    failed = record(partition="iid", status="failed", seed=1)
    assert failed.partition is None
    assert only_study([record(partition="iid"), failed, unsaid(record(partition="iid", seed=2))]).claim_seeds == {
        "iid": 10
    }


def unsaid(made: RunRecord) -> RunRecord:
    """As it was before records said whether their partition is label-skewed."""
    assert made.partition is not None
    return msgspec.structs.replace(made, partition=msgspec.structs.replace(made.partition, label_skewed=None))


def test_a_significant_difference_below_the_least_detectable_is_no_claim() -> None:
    # 12 pairs, sd 0.335: least detectable 0.89 sd = 0.30 points; a difference of 0.25 has p just below 0.05.
    found = compared(only_study(against_fedavg({"a": 0.25}, 12)))
    one = found.iloc[0]
    assert one["p_step_down"] < 0.05
    assert one["difference"] < one["least"]
    assert one["claim"] == ""


def test_the_family_is_the_strategies_of_one_partition() -> None:
    both = [*against_fedavg({"a": 2.0, "b": 0.1}, 10), *against_fedavg({"a": 2.0}, 10, "by_person")]
    found = compared(only_study(both)).set_index(["partition", "strategy"])
    assert found.loc[("iid", "a"), "p_sign_flip"] == found.loc[("by_person", "a"), "p_sign_flip"] == 2 / 2**10
    # Holm doubles the smallest of two and leaves the only one; step-down pays nothing for what is correlated or small.
    assert found.loc[("iid", "a"), "p_holm"] == 4 / 2**10
    assert found.loc[("by_person", "a"), "p_holm"] == 2 / 2**10
    assert found.loc[("iid", "a"), "p_step_down"] == 2 / 2**10
    assert found.loc[("iid", "b"), "p_step_down"] > 0.05


def test_a_strategy_that_lacks_seeds_is_not_corrected_and_claims_nothing() -> None:
    runs = list(against_fedavg({"a": 2.0, "b": 2.0}, 12))
    gone = next(place for place, one in enumerate(runs) if one.spec["strategy"] == "b")
    runs[gone] = record(strategy="b", seed=runs[gone].spec["seed"], status="diverged")
    found = compared(only_study(runs)).set_index("strategy")
    assert found.loc["b", "pairs"] == 11
    assert np.isnan(found.loc["b", "p_step_down"])
    assert found.loc["b", "p_sign_flip"] < 0.05
    assert list(found["claim"]) == ["better", ""]


def test_differences_without_spread_claim_nothing() -> None:
    study = only_study(against_fedavg({"a": 1.0}, 10, spread=0.0))
    assert claims(study) == {"a": ""}
    table = differences_table(study)
    assert table is not None
    assert table.shown.loc[0, "Difference [points]"] == "+1.00 (all equal)"
    assert table.shown.loc[0, ["d_z", "Least detectable [points]"]].tolist() == ["–", "–"]


def test_probabilities_of_improvement_tell_pairs_from_levels() -> None:
    # Half a point better at every seed, while seeds are a point apart: always better in pairs. Of the 16 pairs of any
    # two seeds FedAvg's is lower in 10.
    runs = [
        run(80 + seed + gain, strategy=name, seed=seed)
        for seed in range(4)
        for name, gain in (("fedavg", 0), ("a", 0.5))
    ]
    one = compared(only_study(runs)).iloc[0]
    assert one["improves_paired"] == 1
    assert one["improves"] == pytest.approx(10 / 16)
    a, b = 80.5 + np.arange(4), 80.0 + np.arange(4)
    assert one["improves"] == probability_of_improvement(a, b).probability
    assert one["improves_paired"] == paired_probability_of_improvement(a, b).probability


def test_intervals_over_persons_and_seeds() -> None:
    persons = np.array([[90, 80, 70], [92, 83, 68], [91, 79, 75]])  # (S, P)
    base = np.array([[88, 80, 71], [90, 79, 66], [90, 80, 70]])
    runs = [
        one
        for seed in range(3)
        for one in (
            run(80, persons[seed], strategy="a", seed=seed),
            run(79, base[seed], strategy="fedavg", seed=seed),
        )
    ]
    study = only_study(runs)
    wanted = crossed_interval(persons - base)
    one = compared(study).iloc[0]
    assert (one["crossed"], one["crossed_half"]) == (pytest.approx(wanted.mean), pytest.approx(wanted.half))
    level = levels(study).set_index("strategy").loc["a"]
    assert level["persons"] == pytest.approx(728 / 9)
    assert level["persons_half"] == pytest.approx(crossed_interval(persons).half)
    shown = score_table(study).shown.set_index("Strategy")
    assert shown.loc["a", "Persons [%]"] == f"80.89 ± {level['persons_half']:.2f}"
    # The interval over seeds alone is far narrower: the scores are all equal.
    assert shown.loc["a", "Score [%]"] == "80.00 (all equal)"


def test_one_seed_or_a_person_missing_in_a_seed_has_no_such_interval() -> None:
    one_seed = score_table(only_study([run(80, [80, 90])])).shown
    assert one_seed.loc[0, "Persons [%]"] == "–"
    holes = score_table(only_study([run(80, [80, 90]), run(81, [80, 90, 95], seed=1)])).shown
    assert holes.loc[0, "Persons [%]"] == "–"
    none = score_table(only_study([run(80), run(81, seed=1)])).shown
    assert none.loc[0, "Persons [%]"] == "–"


def test_best_set_names_its_members_or_says_that_there_is_no_difference() -> None:
    far = {"a": 5.0, "b": 5.1, "c": -5.0, "d": -9.0, "local": 20.0}
    table = best_table(only_study(against_fedavg(far, 10)))
    assert table is not None
    one = table.shown.iloc[0]
    assert (one["Strategies"], one["Best set"]) == ("5", "a, b")  # the arms are no candidates
    assert one["Within one point"] == "a, b"
    raw = table.raw.set_index("strategy")
    assert list(raw["in_best_set"]) == ["false", "true", "true", "false", "false"]
    assert raw.loc["a", "to_best_of_others_points"] == pytest.approx(
        raw.loc["a", "score_percent"] - raw.loc["b", "score_percent"]
    )

    near = best_table(only_study(against_fedavg({"a": 0.05, "b": 0.0}, 10)))
    assert near is not None
    least = near.raw["least_detectable_points"].iloc[0]
    assert near.shown.loc[0, "Best set"] == f"no difference found (least detectable {least:.2f} points)"


def test_best_sets_of_few_seeds_are_not_named() -> None:
    table = best_table(only_study(against_fedavg({"a": 5.0, "b": -5.0}, 9)))
    assert table is not None
    assert table.shown.loc[0, "Best set"] == "fewer than ten seeds"
    assert best_table(only_study(against_fedavg({"a": 5.0}, 1))) is None
    three = best_table(only_study(against_fedavg({"a": 5.0, "b": -5.0}, 3)))  # no test of so few can reach 5 %
    assert three is not None
    assert three.shown.loc[0, "Least detectable [points]"] == "–"
    assert "inf" not in to_csv(three)
    assert best_table(only_study([run(80, seed=seed) for seed in range(3)])) is None


def test_ranks_are_means_over_cells() -> None:
    runs = [
        run(score, strategy=strategy, partition=partition)
        for partition, scores in {"iid": (90, 91, 89), "by_person": (80, 79, 70), "quantity": (85, 86, 85)}.items()
        for strategy, score in zip(("fedavg", "a", "b"), scores, strict=True)
    ]
    table = ranks_table(only_study([*runs, run(99, strategy="centralised")]))
    assert table is not None
    # Ranks 2 1 3, 1 2 3, 2.5 1 2.5
    assert list(table.raw["mean_rank"]) == pytest.approx([5.5 / 3, 4 / 3, 8.5 / 3])
    assert list(table.raw["strategy"]) == ["fedavg", "a", "b"]
    assert table.caption[0].startswith("Descriptive, no claim")
    assert ranks_table(only_study(runs[:3])) is None


def test_half_widths_are_of_t() -> None:
    found = compared(only_study(against_fedavg({"a": 2.0}, 12))).iloc[0]
    sd = np.std(NOISE, ddof=1)
    assert found["half"] == pytest.approx(half_width(sd, 12))
    assert found["sd"] == pytest.approx(sd)
