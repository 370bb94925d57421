"""Tuned hyper-parameters in a sweep: whose they are, what a row says of them, and what is missing."""

from __future__ import annotations

from pathlib import Path
from shlex import split
from typing import Any

import pytest
from msgspec.structs import replace

from experiments.__main__ import parser
from experiments.commands.grids import tuning_command
from experiments.config.errors import UserError
from experiments.config.grid import load_grid
from experiments.config.spec import RunSpec
from experiments.tuning.winners import arms, key_of
from results.tuned import tuned
from results.tuned.tuned import Cost, Finalist, Trial, Winner
from tests.experiments.problems import problem

TUNE = "python -m experiments tune mine"


def winner(spec: RunSpec, data_hash: str | None = None, **options: Any) -> Winner:
    """A made-up winner of a run's cell."""
    return Winner(
        key=key_of(spec),
        options={"client_lr": 0.125, **options},
        finalists=(Finalist(number=0, value=0.5, fresh=0.4),),
        cost=Cost(rounds=2, gradient_steps=1, forward_passes=1, bytes=1),
        importance={"client_lr": 1.0},
        study={"data_hash": spec.data_hash if data_hash is None else data_hash},
        trials=(Trial(number=0, batch=0, state="complete", rounds=2, value=0.5, params={"client_lr": 0.125}),),
    )


def test_a_winner_survives_its_file(tmp_path: Path) -> None:
    spec, _ = problem(strategy="fedprox(mu=0.3)", partition="sizes([.55, .45])", clients=2)
    path = tuned.write(tmp_path, winner(spec, strategy="fedprox(mu=0.2)"))
    assert tuned.read(path) == winner(spec, strategy="fedprox(mu=0.2)")
    assert tuned.everything(tmp_path) == [tuned.read(path)]
    assert tuned.find(tmp_path, key_of(spec)) == tuned.read(path)
    assert not list(tmp_path.glob("*.tmp"))
    path.write_text("key: [1]\n")
    with pytest.raises(tuned.ResultsError, match="not a tuned cell"):
        tuned.read(path)


def test_a_run_takes_the_winner_of_its_cell_whatever_its_seed_or_own_values(tmp_path: Path) -> None:
    spec, _ = problem(strategy="fedprox(mu=0.3)", seed=7)
    other, _ = problem(strategy="fedprox(mu=0.001)", seed=3, client_lr=0.01, rounds=9)
    tuned.write(tmp_path, winner(spec, strategy="fedprox(mu=0.2)", optimizer="sgd(momentum=0.9)"))
    found = arms([spec, other], "yes", tmp_path, {}, TUNE)
    assert [one.seed for one in found.specs] == [7, 3]
    assert [one.rounds for one in found.specs] == [3, 9]
    for one in found.specs:
        assert (one.client_lr, one.strategy.mu, one.optimizer.momentum) == (0.125, 0.2, 0.9)
        assert found.origins[one.run_id] == "tuned"
        assert one.data_hash == spec.data_hash
    assert found.pairs == []


def test_an_axis_that_is_tuned_is_no_axis(tmp_path: Path) -> None:
    specs = [problem(client_lr=rate)[0] for rate in (0.01, 0.1)]
    tuned.write(tmp_path, winner(specs[0]))
    with pytest.raises(UserError, match=r"client_lr is tuned, and the grid gives 0\.01 and 0\.1, .* leave --tuned out"):
        arms(specs, "yes", tmp_path, {}, TUNE)


def test_winners_of_unlike_effort_are_not_compared(tmp_path: Path) -> None:
    specs = [problem(partition=partition)[0] for partition in ("iid", "dirichlet(0.3)")]
    for spec, rounds in zip(specs, (15, 1), strict=True):
        one = winner(spec)
        tuned.write(tmp_path, replace(one, study={**one.study, "rounds": rounds}))
    with pytest.raises(UserError, match=r"was tuned by .* of 15 rounds and .* of 1 rounds: no fair comparison"):
        arms(specs, "yes", tmp_path, {}, TUNE)


def test_both_pairs_the_default_with_the_tuned(tmp_path: Path) -> None:
    spec, _ = problem()
    tuned.write(tmp_path, winner(spec))
    found = arms([spec], "both", tmp_path, {}, TUNE)
    assert found.specs[0] == spec
    assert found.pairs == [(spec.run_id, found.specs[1].run_id)]
    assert list(found.origins.values()) == ["default", "tuned"]


def test_a_default_that_won_is_one_run(tmp_path: Path) -> None:
    spec, _ = problem()
    tuned.write(tmp_path, winner(spec, client_lr=spec.client_lr))
    found = arms([spec], "both", tmp_path, {}, TUNE)
    assert found.specs == [spec]
    assert found.pairs == [(spec.run_id, spec.run_id)]
    assert found.origins == {spec.run_id: "default, tuned"}


def test_a_default_that_won_for_two_of_its_family_is_still_a_default(tmp_path: Path) -> None:
    """Both values of mu are of one tuned cell, and the winner is one of them."""
    first, second = (problem(strategy=f"fedprox(mu={mu})")[0] for mu in (0.01, 1))
    tuned.write(tmp_path, winner(first, strategy="fedprox(mu=0.01)", client_lr=first.client_lr))
    found = arms([first, second], "both", tmp_path, {}, TUNE)
    assert found.origins == {first.run_id: "default, tuned", second.run_id: "default"}
    assert found.pairs == [(first.run_id, first.run_id), (second.run_id, first.run_id)]


def test_nothing_is_tuned_unless_it_is_asked_for(tmp_path: Path) -> None:
    spec, _ = problem()
    found = arms([spec], "no", tmp_path / "nowhere", {}, TUNE)
    assert (found.specs, found.origins, found.pairs) == ([spec], {}, [])


def test_cells_without_a_winner_are_all_named(tmp_path: Path) -> None:
    specs = [problem(strategy=text, seed=seed)[0] for text in ("fedavg", "local") for seed in (0, 1)]
    tuned.write(tmp_path, winner(specs[0], strategy="fedavg"))
    other, _ = problem(strategy="fedavg", partition="shards(2)")
    with pytest.raises(UserError, match="make tune") as error:
        arms([*specs, other], "yes", tmp_path, {}, TUNE)
    lines = str(error.value).splitlines()
    assert lines[1:-2] == ["  local on watch, iid", "  fedavg on watch, shards(classes=2)"]
    assert lines[-2].endswith(TUNE)


def test_what_to_type_where_a_winner_is_missing() -> None:
    """A shell and our own parser understand the command as it was meant, whatever is in it."""
    only, changes = 'strategy=["fedavg", "fedprox(mu=1)"]', "dataset=$HOME `id` it's"
    said = ["sweep", "watch-tuned", "--only", only, "--set", changes, "--results", "a b", "--data", "my table.csv"]
    command = split(tuning_command(parser().parse_args(said)))
    assert command[:3] == ["python", "-m", "experiments"]
    meant = parser().parse_args(command[3:])
    assert (meant.command, meant.grid, meant.only, meant.set) == ("tune", "watch-tuned", [only], [changes])
    assert (meant.results, meant.data) == (Path("a b"), Path("my table.csv"))
    assert tuning_command(parser().parse_args(["sweep", "pilot", "--tuned"])) == "python -m experiments tune pilot"


def test_a_cell_borrows_and_says_so(tmp_path: Path) -> None:
    lender, _ = problem()
    borrower, _ = problem(partition="shards(2)")
    tuned.write(tmp_path, winner(lender))
    found = arms([lender, borrower], "yes", tmp_path, {"partition": "iid"}, TUNE)
    assert list(found.origins.values()) == ["tuned", "tuned on iid"]
    assert {one.client_lr for one in found.specs} == {0.125}
    with pytest.raises(UserError, match=r"parttion.*partition"):
        arms([borrower], "yes", tmp_path, {"parttion": "iid"}, TUNE)
    # Its values come with its name: the row would be FedProx's run under FedAvg's.
    with pytest.raises(UserError, match="'strategy' names no cell of the same strategy"):
        arms([borrower], "yes", tmp_path, {"strategy": "fedprox"}, TUNE)


def test_a_cell_borrows_whatever_its_own_values(tmp_path: Path) -> None:
    tuned.write(tmp_path, winner(problem(strategy="fedprox(mu=0.3)")[0]))
    borrower, _ = problem(strategy="fedprox(mu=0.01)", partition="shards(2)")
    assert list(arms([borrower], "yes", tmp_path, {"partition": "iid"}, TUNE).origins.values()) == ["tuned on iid"]


def test_another_data_set_that_lends_is_named_once(tmp_path: Path) -> None:
    lender, _ = problem(dataset="uci-har")
    tuned.write(tmp_path, winner(lender, data_hash="of uci-har"))
    found = arms([problem()[0]], "yes", tmp_path, {"dataset": "uci-har"}, TUNE)
    assert list(found.origins.values()) == ["tuned on uci-har"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"client_lr": "fast"}}, r"fedavg-\w+\.yaml: client_lr must be a number; found 'fast'"),
        ({"options": {"client_rate": 1}}, r"fedavg-\w+\.yaml: unknown option 'client_rate'"),
        ({"options": {"local_epochs": 2}}, r"fedavg-\w+\.yaml: local_steps and local_epochs"),
        ({"finalists": ()}, "without a finalist"),
        ({"trials": ()}, "not a tuned cell"),
        ({"study": {"when": "2026-99-99"}}, "must be in 1..12"),
    ],
)
def test_a_winner_that_was_spoilt_by_hand_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    spec, _ = problem(local_steps=3)
    path = tuned.write(tmp_path, replace(winner(spec), **change))
    path.write_text(path.read_text().replace("'2026-99-99'", "2026-99-99"))
    with pytest.raises(ValueError, match=message):
        arms([spec], "yes", tmp_path, {}, TUNE)


def test_a_winner_under_the_name_of_another_cell_is_refused(tmp_path: Path) -> None:
    spec, _ = problem()
    other, _ = problem(partition="shards(2)")
    tuned.write(tmp_path, winner(spec)).rename(tmp_path / f"{tuned.file_name(key_of(other))}.yaml")
    with pytest.raises(tuned.ResultsError, match="its key is that of watch-iid-fedavg"):
        arms([other], "yes", tmp_path, {}, TUNE)


def test_a_winner_of_other_data_is_used_and_said_to_be(tmp_path: Path) -> None:
    spec, _ = problem()
    tuned.write(tmp_path, winner(spec, data_hash="another zip"))
    assert list(arms([spec], "yes", tmp_path, {}, TUNE).origins.values()) == ["tuned on other data of this name"]


@pytest.mark.parametrize(
    ("text", "message"), [("tuned: perhaps", "true, false or both"), ("tuned_from: iid", "must name options")]
)
def test_a_grid_that_says_it_wrongly(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(f"dataset: watch\n{text}\n")
    with pytest.raises(UserError, match=message):
        load_grid(str(path))


def test_grids_say_whether_they_are_tuned() -> None:
    assert (load_grid("pilot").tuned, load_grid("pilot-tuned").tuned) == ("no", "both")
