"""The winners under `results/tuned/`: every cell that was promised, and nothing that this code would not ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.config.grid import load_grid
from experiments.config.spec import RunSpec
from experiments.tuning.search import BATCH, RANDOM_BATCHES, best, options_of, propose, rungs, space_of, trial_of
from experiments.tuning.study import FINALISTS, FOLDS, FRESH_SEED, SEED, Terms
from experiments.tuning.winners import arms, key_of
from results.tuned import tuned

FOLDER = Path(__file__).parents[3] / "results" / "tuned"
TERMS = Terms()
DEFAULTS: dict[str, RunSpec] = {
    tuned.file_name(key_of(spec)): spec
    for grid in ("pilot-tuned", "watch-tuned")
    for spec in load_grid(grid).specs()
    if spec.seed == 0
}


# Beside the winners themselves, those of a second table, with local epochs as the grid has them, and of two more
# studies: what is not searched, and the study's seed.
FOLDERS: dict[Path, tuple[tuple[str, ...], int]] = {
    FOLDER: ((), 0),
    FOLDER / tuned.FIXED_EPOCHS: (("local_epochs",), 0),
    FOLDER / "seed-1": ((), 1),
    FOLDER / "seed-2": ((), 2),
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_is_one_of_every_cell_and_no_other(folder: Path) -> None:
    assert len(DEFAULTS) == 4 * 4 + 2 * 4
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(DEFAULTS)


def same(value: Any) -> Any:
    """The last digit of an exponential is the CPU's: with other vector units a rate may end otherwise."""
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_a_winner_is_what_its_study_says(name: str, folder: Path) -> None:
    """The trials are those that the sampler asks for today, halved by the rule, and the winner is theirs."""
    spec, winner = DEFAULTS[name], tuned.read(folder / f"{name}.yaml")
    fixed, seed = FOLDERS[folder]
    space, told = space_of(spec, fixed), []
    assert len(winner.trials) == TERMS.trials
    for batch in range(TERMS.trials // BATCH):
        trials = winner.trials[BATCH * batch : BATCH * (batch + 1)]
        for trial, asked in zip(trials, propose(space, told, seed, batch), strict=True):
            assert trial.params == {name: same(value) for name, value in asked.items()}
        told += [
            trial_of(space, trial.params, {trial.rounds: trial.value}, TERMS.rounds, batch, place)
            for place, trial in enumerate(trials)
        ]
        reached = [sum(trial.rounds > after for trial in trials) for after, _ in rungs(TERMS.rounds)]
        wanted = [BATCH] * 2 if batch < RANDOM_BATCHES else [kept for _, kept in rungs(TERMS.rounds)]
        assert reached == wanted
        assert all((trial.state == "complete") == (trial.rounds == TERMS.rounds) for trial in trials)
    complete = [trial for trial in winner.trials if trial.state == "complete"]
    five = {complete[place].number for place in best([trial.value for trial in complete], FINALISTS)}
    assert {one.number for one in winner.finalists} == five
    first = winner.finalists[0]
    assert first.fresh == max(one.fresh for one in winner.finalists)
    assert winner.options == options_of(spec.strategy, winner.trials[first.number].params)
    assert winner.study["seeds"] == list(range(SEED, SEED + FOLDS))
    assert winner.study["fresh_seeds"] == list(range(FRESH_SEED, FRESH_SEED + FOLDS))


@pytest.mark.parametrize("grid", ["pilot-tuned", "watch-tuned"])
def test_a_sweep_of_the_grid_has_all_it_needs(grid: str) -> None:
    specs = load_grid(grid).specs()
    found = arms(specs, "both", FOLDER, {}, "make tune")
    assert len(found.pairs) == len(specs)
    assert len({key_of(spec)["partition"] for spec in found.specs}) == (4 if grid == "pilot-tuned" else 2)
    reported = {spec.seed for spec in found.specs}
    assert reported.isdisjoint(range(SEED, FRESH_SEED + FOLDS)), "seeds of tuning are never reported"
