"""Rules: a strategy and its loss are one name wherever rows, families, winners and legends are told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments.config.spec import RunSpec
from results.frame import frames
from results.record import RunRecord
from results.reporting.index import report
from results.reporting.listing import ls
from results.reporting.study import studies
from results.reporting.style import looks
from results.reporting.subjects.comparisons import best_table, compared, ranks_table
from results.reporting.subjects.privacy import privacy_table
from results.reporting.subjects.privacy import private as promises
from results.reporting.subjects.tuning import importance_table, tuned_table
from results.reporting.tables import main_table, score_table
from results.rules import ARMS, LOSS, Rule, family, is_arm, rule
from results.store import Store
from results.tuned.tuned import KEY, OPTIONAL, Winner, file_name, find, key_of, read, write
from tests.results.builder import only_study, record, records
from tests.results.private import private
from tests.results.reporting.test_report import filled
from tests.results.reporting.test_tuning import both, winner

ADJUSTED = "logit_adjusted(tau=1.0)"
FOUND = {
    "fedavg": ("fedavg", None),
    "fedprox(mu=0.01)": ("fedprox(mu=0.01)", LOSS),
    "fedavg + logit_adjusted(tau=1.0)": ("fedavg", ADJUSTED),
    "paillier(inner=fedprox(mu=0.1)) + logit_adjusted": ("paillier(inner=fedprox(mu=0.1))", "logit_adjusted"),
    "flower(path='a + b')": ("flower(path='a + b')", LOSS),
    "flower(path='a + b') + logit_adjusted": ("flower(path='a + b')", "logit_adjusted"),
}


def under(loss: str, **changes: Any) -> RunRecord:
    return record(options=(("loss", loss),), **changes)


def two_losses(partitions: tuple[str, ...] = ("iid", "by_person"), seeds: int = 2) -> Iterator[RunRecord]:
    for loss in (LOSS, ADJUSTED):
        yield from records(partitions, ("fedavg", "fedprox(mu=0.01)", "local"), seeds, options=(("loss", loss),))


RULES = ["fedavg", "fedavg + logit_adjusted(tau=1.0)", "fedprox(mu=0.01)", "fedprox(mu=0.01) + logit_adjusted(tau=1.0)"]
RULES += ["local", "local + logit_adjusted(tau=1.0)"]


# Text


@pytest.mark.parametrize("text", FOUND)
def test_a_rule_is_written_and_read_back(text: str) -> None:
    strategy, loss = FOUND[text]
    assert rule(strategy, loss) == text
    assert Rule.parse(text) == Rule(strategy, loss or LOSS)


def test_the_loss_that_is_left_out_is_the_default_of_a_run() -> None:
    assert RunSpec.from_options({}).options()["loss"] == LOSS


@pytest.mark.parametrize("lacking", [None, float("nan")])
def test_an_older_record_had_the_usual_loss(lacking: Any) -> None:
    assert rule("fedavg", lacking) == "fedavg"


def test_families_and_arms() -> None:
    assert family("fedprox(mu=0.01)") == "fedprox"
    assert family("fedprox(mu=0.01) + logit_adjusted(tau=1)") == "fedprox + logit_adjusted"
    assert family("fedavg") != family("fedavg + logit_adjusted(tau=1)")
    assert all(is_arm(arm) and is_arm(f"{arm} + logit_adjusted(tau=1)") for arm in ARMS)
    assert not is_arm("fedavg + local"), "the strategy is the arm, not the loss"


# Rows and families


def test_a_loss_is_part_of_the_rows_name_and_no_column() -> None:
    study = only_study(two_losses())
    assert study.settings == study.panels == ()
    assert list(study.frames.runs["strategy"].cat.categories) == RULES
    assert list(main_table(study).shown.columns) == ["Partition", *RULES]
    assert list(score_table(study).shown["Strategy"]) == 2 * RULES
    assert "loss" not in study.common, "the names say it"


def test_one_loss_of_all_runs_is_said_once() -> None:
    assert only_study(records(seeds=1)).common["loss"] == LOSS
    study = only_study([under(ADJUSTED)])
    assert "loss" not in study.common
    assert list(main_table(study).shown.columns) == ["Partition", "fedavg + logit_adjusted(tau=1.0)"]


def test_rules_are_held_against_fedavg_with_the_usual_loss_in_one_family() -> None:
    found = compared(only_study(two_losses(("iid",), seeds=6)))
    assert list(found["strategy"].astype(str)) == RULES[1:]
    assert found["p_step_down"].notna().all()


def test_an_arm_with_another_loss_is_an_arm() -> None:
    study = only_study(two_losses(seeds=3))
    best, ranked = best_table(study), ranks_table(study)
    assert best is not None
    assert ranked is not None
    assert set(best.raw["strategy"]) == set(ranked.raw["strategy"]) == set(RULES[:4])
    look = looks(RULES)
    assert look["local + logit_adjusted(tau=1.0)"].marker == look["local"].marker
    assert len({(one.colour, one.marker) for one in list(look.values())[:4]}) == 4


def test_options_are_the_strategys_where_a_record_does_not_list_them() -> None:
    older = msgspec.structs.replace(
        under(ADJUSTED, strategy="fedprox(mu=0.01, weighting=uniform)"), strategy_options={}
    )
    row = score_table(only_study([older])).shown.iloc[0]
    assert (row["Weighting"], row["Options"]) == ("uniform", "mu=0.01")


def test_the_tuned_rules_of_one_strategy_go_by_their_families() -> None:
    runs = [under(loss, strategy="fedprox(mu=0.01)") for loss in (LOSS, ADJUSTED)]
    [study] = studies(frames(runs, {run.run_id: "tuned" for run in runs}))
    assert list(study.frames.runs["strategy"].cat.categories) == ["fedprox", "fedprox + logit_adjusted"]


def test_private_lines_are_told_apart_by_their_loss() -> None:
    runs = [
        private(epsilon, seed=seed, options=(("loss", loss),))
        for epsilon in (None, 8.0)
        for loss in (LOSS, ADJUSTED)
        for seed in range(2)
    ]
    study = only_study(runs)
    assert set(promises(study)["label"]) == {"fedavg, own noise", "fedavg + logit_adjusted(tau=1.0), own noise"}
    assert promises(study).groupby("label")["line"].nunique().max() == 1
    table = privacy_table(study)
    assert table is not None
    assert len(table.shown) == 4


def test_the_listing_names_the_rule(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(under(ADJUSTED))
    assert "iid  fedavg + logit_adjusted(tau=1.0)  0" in ls(store)


# Tuning


def adjusted() -> Winner:
    usual = winner()
    return msgspec.structs.replace(usual, key={**usual.key, "loss": ADJUSTED})


def test_older_winners_keep_their_names() -> None:
    key = winner().key
    assert set(key) == set(KEY)
    assert file_name(key) == file_name({**key, **OPTIONAL}) == "uci-har-iid-fedavg-2237473a"
    assert key_of({**key, **OPTIONAL, "rounds": 15}) == key


@pytest.mark.parametrize("more", [{"loss": ADJUSTED}, {"corrupt": "label_noise(office=0, rate=0.3)"}])
def test_what_a_rule_is_and_meets_is_in_a_winners_key(more: dict[str, str], tmp_path: Path) -> None:
    usual = winner()
    other = msgspec.structs.replace(usual, key={**usual.key, **more})
    for one in (usual, other):
        write(tmp_path, one)
    assert find(tmp_path, usual.key) == usual
    assert find(tmp_path, {**usual.key, **more}) == other
    assert read(tmp_path / f"{other.name}.yaml") == other


def test_tables_of_tuning_name_the_rule() -> None:
    for made in (tuned_table([adjusted(), winner()]), importance_table([adjusted(), winner()])):
        assert made is not None
        assert list(made.shown["Strategy"]) == list(made.raw["strategy"]) == RULES[:2]
        assert "loss" not in made.raw
        assert "corrupt" not in made.raw


def test_corruption_is_a_column_where_any_cell_has_one() -> None:
    spoilt = msgspec.structs.replace(winner(), key={**winner().key, "corrupt": "label_noise(office=0, rate=0.3)"})
    made = tuned_table([spoilt, winner()])
    assert made is not None
    assert list(made.raw["corrupt"]) == list(made.shown["corrupt"]) == ["label_noise(office=0, rate=0.3)", "none"]


# What there was

LOSS_ALONE = re.compile(r", loss cross\\?_entropy|,loss\b|,cross_entropy\b")  # in captions, and a column of scores.csv


def without_loss(made: RunRecord) -> RunRecord:
    """As an older record is, whose options did not name a loss."""
    return msgspec.structs.replace(made, spec={name: one for name, one in made.spec.items() if name != "loss"})


def test_the_tables_of_what_is_stored_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules of the usual loss are called as their strategies were, and nothing but the common settings names it."""
    for figures in ("FIGURES", "SWEPT", "FOLDS", "PROTECTED", "PRIVATE", "PERSONS"):
        monkeypatch.setattr(f"results.reporting.index.{figures}", {})
    runs, pairs, origins = both()
    made = [
        *records(("iid", "by_person"), seeds=2),
        *(private(epsilon) for epsilon in (None, 8.0)),
        record(strategy="bfv"),
    ]
    written = []
    for name, change in (("now", lambda one: one), ("before", without_loss)):
        folder = tmp_path / name
        done = report(filled(folder / "a", list(map(change, made))), folder / "out-a")
        tuned = report(filled(folder / "b", list(map(change, runs))), folder / "out-b", pairs=pairs, origins=origins)
        files = {path.relative_to(folder): path.read_text("utf-8") for path in (*done.written, *tuned.written)}
        written.append({path: LOSS_ALONE.sub("", text) for path, text in files.items()})
    assert written[0] == written[1]
