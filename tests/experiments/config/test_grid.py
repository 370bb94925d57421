"""Grid files: what they multiply out to, and how a mistake in one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.__main__ import parser
from experiments.commands.report import report_folder
from experiments.config.errors import UserError
from experiments.config.grid import FOLDER, load_grid


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_lists_are_axes(tmp_path: Path) -> None:
    grid = load_grid(
        write(tmp_path, "partition: [iid, shards(2)]\nstrategy: [fedavg, local]\nseed: [0, 1, 2]\nclient-lr: 1e-2\n")
    )
    specs = grid.specs()
    assert len(specs) == len({spec.run_id for spec in specs}) == 12
    assert {spec.client_lr for spec in specs} == {0.01}
    assert [spec.seed for spec in specs[:3]] == [0, 1, 2]


def test_the_same_run_twice_is_one_run(tmp_path: Path) -> None:
    assert len(load_grid(write(tmp_path, "strategy: [fedprox, fedprox(0.01), fedprox(mu=.01)]\n")).specs()) == 1


@pytest.mark.parametrize(
    ("name", "runs", "names_dataset"),
    [
        ("smoke", 16, True),
        ("pilot", 11 * 9 * 5, False),
        ("recipe", 20, True),
        ("persons", 6 * 2 * 4 * 3, True),
        ("sensitivity", 6 * 2 * 4 * 5, True),
        ("protection", 2 * 13 * 10, True),
        ("privacy", 2 * 92 * 10, True),
        ("private-recipe", 4 * 6 * 4, True),
        ("privacy-tuned", 9 * 10, True),
    ],
)
def test_shipped_grids(name: str, runs: int, names_dataset: bool) -> None:
    grid = load_grid(name)
    assert (len(grid.specs()), grid.names_dataset) == (runs, names_dataset)


def test_every_shipped_grid_is_readable() -> None:
    assert all(load_grid(path.stem).specs() for path in FOLDER.glob("*.yaml"))


def test_only_and_set() -> None:
    grid = load_grid(
        "pilot", only=["partition=majority(0.7)", "seed=2", "seed=3"], changes=["rounds=3", "client_lr=[0.1, 0.2]"]
    )
    specs = grid.specs()
    assert len(specs) == 1 * 9 * 2 * 2
    assert {spec.rounds for spec in specs} == {3}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("partition: [iid\n", "not readable YAML"),
        ("- iid\n", "expected lines of `option: value`; found list"),
        ("", "found NoneType"),
        ("stratgy: fedavg\n", "did you mean 'strategy'"),
        ("strategy: []\n", "strategy is an empty list"),
        ("rounds: [5, few]\n", "rounds must be a whole number; found 'few'"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_grid(write(tmp_path, text)).specs()


@pytest.mark.parametrize(
    ("only", "changes", "told"),
    [
        (["strategy=fedavgm"], [], "unknown strategy|has fedavg"),
        (["rounds=7"], [], "grid smoke has 5"),
        (["client_lr=1"], [], "does not set client_lr"),
        (["strategy"], [], "expected key=value"),
        ([], ["=3"], "expected key=value"),
    ],
)
def test_bad_narrowing_is_told(only: list[str], changes: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_grid("smoke", only, changes).specs()


def test_an_unknown_grid_is_told_with_what_there_is() -> None:
    with pytest.raises(UserError, match="did you mean 'pilot'"):
        load_grid("pilto")


def test_variants_are_small_grids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "partition: [iid, shards(2)]\nrounds: 5\nvariants:\n"
        "  - {strategy: fedavg, rounds: 9}\n"
        "  - {strategy: [fedprox(mu=0.1), fedavg], client-lr: 0.3}\n"
    )
    specs = load_grid(str(path)).specs()
    assert len(specs) == 2 * (1 + 2)
    assert {(spec.rounds, spec.client_lr) for spec in specs} == {(9, 0.05), (5, 0.3)}
    only = load_grid(str(path), ["strategy=fedavg", "partition=iid"]).specs()
    assert sorted((spec.rounds, spec.client_lr) for spec in only) == [(5, 0.3), (9, 0.05)]
    assert len(load_grid(str(path), ["strategy=fedprox(mu=0.1)"]).specs()) == 2
    assert {spec.rounds for spec in load_grid(str(path), (), ["rounds=7"]).specs()} == {7}
    path.write_text("variants: fedavg\n")
    with pytest.raises(UserError, match="variants must be a list of options that go together"):
        load_grid(str(path))


def test_a_narrowed_grid_does_not_write_over_the_report_of_the_whole_or_of_another() -> None:
    def name(grid: str, *arguments: str) -> str:
        options = parser().parse_args(["report", grid, *arguments])
        folder = report_folder(options, load_grid(options.grid, options.only, options.set))
        assert folder.parent == Path("results/report")
        return folder.name

    assert name("pilot") == "pilot"
    assert name("pilot", "--only", "strategy=fedavg", "--set", "rounds=5").startswith("pilot+strategy-fedavg+rounds-5-")
    assert name("pilot-tuned", "--tuned") == "pilot-tuned"  # it says so itself
    both = ["--only", "seed=0", "--only", "strategy=fedavg"]
    assert name("pilot", *both) == name("pilot", *both[2:], *both[:2])
    changed = [
        *[["--set", f"seed={list(range(start, 90))}"] for start in (0, 1)],
        *[["--set", f"client_lr={rate}"] for rate in ("1e-1", "1e+1")],
        *[["--tuned"], ["--engine", "simulation"], ["--set", "é=ü"], ["--set", "a=../.."]],
    ]
    names = [name("pilot", *arguments) for arguments in changed]
    assert len(set(names)) == len(names)
    assert not set(names) & {path.stem for path in FOLDER.glob("*.yaml")}
    assert max(map(len, names)) < 120
    given = parser().parse_args(["report", "pilot", "--only", "seed=1", "--out", "here"])
    assert report_folder(given, load_grid("pilot")) == Path("here")
