"""One run: what its record says, what varies with the seed, and how it ends when it cannot go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.federation.describe import describe
from experiments.federation.run import (
    attempt,
    deal_rows,
    prepare,
    resolved,
    run,
    run_models,
    save,
    set_up,
    standardiser,
)
from partitions import PartitionError
from results.record import RunRecord, encode
from tests.experiments.problems import SMALL, dataset, problem
from tests.experiments.toys import Failing, Forgetful, Spoiling


def outcome(**options: Any) -> Any:
    spec, data = problem(**options)
    sides = set_up(spec, data, deal_rows(spec, data))
    return inprocess.run(sides.server, sides.clients, len(sides.clients.workloads))


def test_the_record_has_the_keys_that_were_promised() -> None:
    record = json.loads(encode(run(*problem())))
    assert {"run_id", "spec", "rounds", "offices", "partition", "final", "cost", "environment", "status"} <= set(record)
    assert {"round", "test_accuracy", "test_loss", "test_macro_f1", "validation_accuracy", "train_loss"} == set(
        record["rounds"][0]
    )
    assert {"score", "test_accuracy", "test_macro_f1", "test_f1_per_class", "test_correct_by_person"} <= set(
        record["final"]
    )
    assert {"mean_office_accuracy", "weighted_office_accuracy", "worst_office_accuracy"} <= set(record["final"])
    assert {"train_s", "aggregate_s", "evaluate_s", "wall_s", "bytes_up", "bytes_down"} <= set(record["cost"])
    assert {"versions", "cpu_path", "commit", "sources_hash", "data_hash"} <= set(record["environment"])
    assert [office["name"] for office in record["offices"]] == ["CBS", "ISTAT", "ONS", "STATCAN"]
    assert len(record["rounds"]) == 3


def test_figures_of_the_record_agree_with_each_other() -> None:
    record = run(*problem(rounds=7))
    final = record.final
    assert final is not None
    assert final.score == pytest.approx(np.mean([row.test_accuracy for row in record.rounds[-5:]]))
    assert final.test_accuracy == record.rounds[-1].test_accuracy
    assert final.test_macro_f1 == pytest.approx(np.mean(final.test_f1_per_class))
    correct = sum(hit for hit, _ in final.test_correct_by_person.values())
    total = sum(n for _, n in final.test_correct_by_person.values())
    assert (correct / total, total) == (pytest.approx(final.test_accuracy), 60)
    accuracies = [office.validation_accuracy for office in record.offices]
    assert final.worst_office_accuracy == min(accuracies)
    assert final.mean_office_accuracy == pytest.approx(np.mean(accuracies))
    assert final.test_accuracy > 0.8, "three separated classes are learnt"
    weights = 6 * 8 + 8 + 8 * 3 + 3
    assert record.cost.bytes_up == record.cost.bytes_down == 4 * weights * 7 * 4  # float32, d weights, rounds, offices


def same_results(a: RunRecord, b: RunRecord) -> bool:
    return (a.rounds, a.offices, a.final, a.partition) == (b.rounds, b.offices, b.final, b.partition)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox(mu=0.1)", "local", "centralised"])
def test_the_same_spec_gives_the_same_bits(strategy: str) -> None:
    assert same_results(run(*problem(strategy=strategy)), run(*problem(strategy=strategy)))


@pytest.mark.parametrize("varied", ["seed", "partition_seed"])
def test_a_seed_changes_the_result(varied: str) -> None:
    assert not same_results(run(*problem(**{varied: 1})), run(*problem(**{varied: 2})))


def test_seeds_are_paired_over_strategies() -> None:
    firsts, deals = set(), set()
    for strategy in (
        "fedavg",
        "fedprox(mu=1)",
        "local",
        "centralised",
        "flower(path=flwr.serverapp.strategy.FedMedian)",
    ):
        spec, data = problem(strategy=strategy, seed=3)
        deal = deal_rows(spec, data)
        firsts.add(set_up(spec, data, deal).server.first.tobytes())
        deals.add(deal.hash)
    assert len(firsts) == len(deals) == 1


def test_partition_seed_fixes_the_split_alone() -> None:
    one, other = (problem(seed=seed, partition_seed=5) for seed in (1, 2))
    assert deal_rows(*one).hash == deal_rows(*other).hash
    first = [set_up(spec, data, deal_rows(spec, data)).server.first for spec, data in (one, other)]
    assert not np.array_equal(*first)


def test_a_record_says_whether_its_partition_is_label_skewed() -> None:
    told = {name: run(*problem(partition=name, rounds=1, min_examples=1)).partition for name in ("iid", "shards(2)")}
    assert {name: one.label_skewed for name, one in told.items()} == {"iid": False, "shards(2)": True}


def test_arms_send_nothing_and_centralised_takes_all_steps() -> None:
    for strategy in ("local", "centralised"):
        assert run(*problem(strategy=strategy)).cost.bytes_up == 0
    spec, data = problem(partition="sizes([.55, .25, .15, .05])")
    alone = set_up(spec, data, deal_rows(spec, data)).clients.workloads
    spec, data = problem(partition="sizes([.55, .25, .15, .05])", strategy="centralised")
    [pooled] = set_up(spec, data, deal_rows(spec, data)).clients.workloads
    assert pooled.steps == sum(work.steps for work in alone)
    assert sorted(pooled.rows) == sorted(row for work in alone for row in work.rows)


def test_local_is_each_office_alone() -> None:
    """Row k of the models is office k's local training chained over the rounds, bit for bit."""
    spec, data = problem(strategy="local", rounds=2)
    sides = set_up(spec, data, deal_rows(spec, data))
    clients = sides.clients
    models = inprocess.run(sides.server, clients, 4).models
    assert len({model.tobytes() for model in models}) == 4
    trainer = clients.start().trainer
    for office in range(4):
        w = sides.server.first
        for round_ in (1, 2):
            w = trainer.train([clients.received({"w": w}, round_, office).job()], [office])[0].w
        assert np.array_equal(w, models[office])


@pytest.mark.parametrize(("fraction", "cohort"), [(0.5, 2), (0.25, 1), (0.01, 1), (0.6, 2), (0.7, 3)])
def test_fraction_is_a_rounded_cohort_drawn_anew_each_round(fraction: float, cohort: int) -> None:
    d = 6 * 8 + 8 + 8 * 3 + 3
    seen = outcome(fraction=fraction, rounds=8)
    assert sum(seen.bytes_up) == cohort * 8 * 4 * d
    assert sum(up > 0 for up in seen.bytes_up) > cohort or cohort == 4


def test_no_validation_leaves_office_accuracies_null() -> None:
    record = run(*problem(validation=0))
    assert record.final.validation_score is record.final.worst_office_accuracy is None
    assert record.rounds[0].validation_accuracy is None
    assert sum(office.num_examples for office in record.offices) == 240


def test_without_test_rows_test_figures_are_null() -> None:
    spec, data = problem()
    record = run(spec, replace(data, test=None))
    assert record.status == "ok"
    assert record.final.score is record.final.test_correct_by_person is record.rounds[0].test_loss is None
    assert record.final.validation_score > 0.5


@pytest.mark.parametrize("partition", ["iid", "dirichlet_even(0.3)", "by_person", "one_person_per_client"])
@pytest.mark.parametrize("form", ["features", "raw"])
def test_every_form_runs(partition: str, form: str) -> None:
    model = "mlp(hidden=[8])" if form == "features" else "cnn1d(channels=[4], kernel=3)"
    spec, data = problem(form, partition=partition, model=model, rounds=1, min_examples=1)
    assert spec.clients == (8 if partition == "one_person_per_client" else 4)
    assert run(spec, data).status == "ok"


def test_one_person_per_client_refuses_another_number() -> None:
    with pytest.raises(PartitionError, match="5"):
        run(*problem(partition="one_person_per_client", clients=5, min_examples=1))


def test_standardising_is_by_the_training_rows_of_all_offices() -> None:
    spec, data = problem(standardise="pooled")
    deal = deal_rows(spec, data)
    scale = standardiser(spec, data, deal)
    rows = np.concatenate(deal.train)
    ours = scale(data.train.x)[rows]
    np.testing.assert_allclose(ours.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(ours.std(0), 1, rtol=1e-5)
    assert ours.dtype == np.float32
    raw_spec, raw = problem("raw", standardise="pooled", model="cnn1d(channels=[4])")
    windows = standardiser(raw_spec, raw, deal_rows(raw_spec, raw))(raw.train.x)
    assert windows.shape == raw.train.x.shape
    assert np.ptp(windows.mean((0, 1))) < 0.2, "one scale a channel"


def test_standardising_leaves_a_constant_column_alone() -> None:
    spec, data = problem(standardise="pooled")
    x = data.train.x.copy()
    x[:, 2] = 7.0
    data = replace(data, train=replace(data.train, x=x))
    assert np.all(standardiser(spec, data, deal_rows(spec, data))(x)[:, 2] == 0)


@pytest.mark.parametrize(("asked", "standardised"), [("auto", False), ("none", False), ("pooled", True)])
def test_standardise_auto_follows_the_data_set(asked: str, standardised: bool) -> None:
    spec, data = problem(standardise=asked)
    x = standardiser(spec, data, deal_rows(spec, data))(data.train.x)
    assert (not np.array_equal(x, data.train.x)) == standardised


def spoilt(offices: tuple[int, ...], factor: float, **options: Any) -> RunRecord:
    spec, data = problem(**options)
    return run(replace(spec, strategy=Spoiling(offices=offices, factor=factor)), data)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e12])
def test_a_bad_update_is_left_out_and_counted(factor: float) -> None:
    record = spoilt((1,), factor)
    assert (record.status, record.filtered) == ("ok", True)
    assert [office.rejected for office in record.offices] == [0, 2, 0, 0]
    assert record.final.test_accuracy > 0.6


def test_only_bad_updates_diverge_and_keep_the_rounds_before() -> None:
    record = spoilt((0, 1, 2, 3), float("nan"))
    assert record.status == "diverged"
    assert "round 2" in record.error
    assert len(record.rounds) == 1
    assert record.final is None
    assert "NaN" not in encode(record).decode()


def test_the_bare_rule_meets_the_bad_update() -> None:
    record = spoilt((1,), float("nan"), reject_nonfinite="false")
    assert record.status == "diverged"
    assert "not finite" in record.error


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learning_rate_that_blows_up_diverges() -> None:
    record = run(*problem(client_lr=1e6, rounds=5))
    assert record.status == "diverged"
    record = run(*problem(strategy="fedprox(mu=0.5)", client_lr=300, rounds=6))
    assert record.status == "diverged"
    assert record.rounds
    assert all(row.train_loss is not None for row in record.rounds)


def test_a_client_that_fails_fails_the_run_with_its_error() -> None:
    spec, data = problem()
    record, _ = attempt(replace(spec, strategy=Failing()), data)
    assert record.status == "failed"
    assert "the disk is full" in record.error
    assert record.rounds == ()
    assert record.run_id


def test_an_aggregation_that_returns_nothing_fails_the_run() -> None:
    spec, data = problem()
    record, _ = attempt(replace(spec, strategy=Forgetful()), data)
    assert record.status == "failed"
    assert "aggregated nothing" in record.error


FLOWERS_OWN = [
    "FedAvg",
    "FedAvgM, server_momentum=0.5",
    "FedAdagrad",
    "FedAdam",
    "FedYogi",
    "FedMedian",
    "FedTrimmedAvg, beta=0.25",
    "FedProx, proximal_mu=0.1",
    "Krum, num_malicious_nodes=1",
    "MultiKrum, num_malicious_nodes=1, num_nodes_to_select=2",
    "QFedAvg, client_learning_rate=0.2",
    "DifferentialPrivacyServerSideAdaptiveClipping, strategy=fedavg(), noise_multiplier=0.01, num_sampled_clients=4",
]


@pytest.mark.parametrize("trainer", ["auto", "reference"])
@pytest.mark.parametrize("text", FLOWERS_OWN)
def test_flowers_own_strategies_run_and_repeat(text: str, trainer: str) -> None:
    """Also those that answer in float64 (FedAdam) or draw from the global generators (the DP wrappers)."""
    strategy = f"flower(path=flwr.serverapp.strategy.{text})"
    runs = [run(*problem(strategy=strategy, trainer=trainer)) for _ in range(2)]
    assert runs[0].status == "ok"
    assert same_results(*runs)


def test_flowers_bulyan_with_four_clients_fails_instead_of_passing_as_its_first_model() -> None:
    strategy = "flower(path=flwr.serverapp.strategy.Bulyan, num_malicious_nodes=1)"
    record, _ = attempt(*problem(strategy=strategy))
    assert record.status == "failed"
    assert "Bulyan aggregated nothing" in record.error


def test_a_server_that_asks_for_what_clients_do_not_do_is_refused() -> None:
    strategy = (
        "flower(path=flwr.serverapp.strategy.DifferentialPrivacyClientSideFixedClipping, strategy=fedavg(), "
        "noise_multiplier=1, clipping_norm=1.0, num_sampled_clients=4)"
    )
    record, _ = attempt(*problem(strategy=strategy))
    assert record.status == "failed"
    assert "clipping" in record.error


def test_flowers_server_side_wrapper_runs() -> None:
    strategy = (
        "flower(path=flwr.serverapp.strategy.DifferentialPrivacyServerSideFixedClipping, strategy=fedavg(), "
        "noise_multiplier=0.01, clipping_norm=1.0, num_sampled_clients=4)"
    )
    assert same_results(run(*problem(strategy=strategy)), run(*problem(strategy=strategy)))


def test_save_model_round_trips(tmp_path: Path) -> None:
    spec, data = problem()
    record, models = run_models(spec, data)
    save(tmp_path / "model.safetensors", spec, data, models)
    tensors = load_file(tmp_path / "model.safetensors")
    h = np.maximum(data.test.x @ tensors["0.weight"].T + tensors["0.bias"], 0)
    predicted = (h @ tensors["2.weight"].T + tensors["2.bias"]).argmax(1)
    assert np.mean(predicted == data.test.y) == record.final.test_accuracy


def test_resolving_fills_in_the_data() -> None:
    data = prepare(dataset(), "official")
    spec = resolved(RunSpec.from_options(SMALL), data)
    assert spec.data_hash == data.about.hash
    assert spec.run_id != RunSpec.from_options(SMALL).run_id


def test_own_models_are_told_where_there_are_any() -> None:
    assert "their own models there: mean " in describe(run(*problem(strategy="ditto")))
    assert "their own models" not in describe(run(*problem()))
