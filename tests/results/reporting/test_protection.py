"""What protection costs: a round's figures whatever was measured, what stands in no other table, and the figure."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

from results.frame import frames
from results.record import RunRecord
from results.reporting.index import report
from results.reporting.listing import show
from results.reporting.render import to_csv, to_latex, to_markdown, to_text
from results.reporting.study import Study
from results.reporting.style import looks, style
from results.reporting.subjects import protection
from results.reporting.subjects.protection import PARTIES, learns_table, protection_table
from results.reporting.tables import costs_table, main_table, score_table, unevenness_table
from results.store import Store
from tests.results.builder import BASE_TRAIN_S, PROTOCOLS, only_study, record, records
from tests.results.private import private
from tests.results.reporting.test_figures import can_be_read

STRATEGIES = ("masked_sum", "masked_sum(bits=12)", "paillier", "paillier(inner=fedprox(mu=0.01))", "secagg", "bfv")


def swept(strategies: tuple[str, ...] = ("fedavg", *STRATEGIES), **changes: object) -> list[RunRecord]:
    """As a sweep leaves them: one round measured of the first seed of every cell."""
    return [
        record(strategy=strategy, partition=partition, seed=seed, **{"measured": int(seed == 0)} | changes)
        for strategy in strategies
        for partition in ("iid", "dirichlet(alpha=0.1)")
        for seed in range(3)
    ]


def costs(*runs: RunRecord) -> dict[str, str]:
    """The only row of the table."""
    table = protection_table(only_study(runs))
    assert table is not None
    (row,) = table.shown.to_dict("records")
    return {str(name): str(value) for name, value in row.items()}


def draw(study: Study, label: str = "") -> list[Figure]:
    with style():
        made = protection.protection(study, looks(study.frames.runs["strategy"].cat.categories), label)
        for figure in made:
            figure.draw_without_rendering()
    return made


def test_it_comes_through_the_store_whole(store: Store) -> None:
    made = record(strategy="secagg", measured=1)
    store.put(made)
    assert made.protection is not None
    assert store.get(*made.key) == made
    assert '"server and t offices": "all updates"' in show(made)
    found, again = (frames(store.compact()).protection for _ in range(2))
    assert_frame_equal(found, again)  # the second is from Parquet
    [row] = found.to_dict("records")
    assert row["all_rounds"] == made.protection.rounds
    written = msgspec.to_builtins(made.protection)
    known = set(row) & set(written)
    assert {name: row[name] for name in known} == {name: written[name] for name in known}
    assert set(row) - known == {"run", "all_rounds", "naive_encrypt_s", "naive_decrypt_s", "naive_sample"}


def test_a_key_that_a_record_does_not_know_is_missing() -> None:
    made = record(strategy="masked_sum")
    assert made.protection is not None
    older = msgspec.structs.replace(made.protection, sees=None, measured_bytes_up=None)
    row = costs(record(), msgspec.structs.replace(made, protection=older))
    assert (row["Up [kB]"], row["Up over plain"]) == ("–", "–")
    table = learns_table(only_study([msgspec.structs.replace(made, protection=older)]))
    assert table is not None
    assert table.shown.to_numpy().tolist() == [["plain", "updates, sums, model"], ["masked_sum", "–"]]


@pytest.mark.parametrize("measured", [1, 7, 25])
def test_costs_are_those_of_a_round(measured: int) -> None:
    row = costs(record(), record(strategy="paillier", measured=measured))
    encrypt, add, decrypt, keys, up, down, _ = PROTOCOLS["paillier"]
    assert row["Rounds measured"] == f"{measured} of 25"
    assert row["Encrypt [s]"] == f"{encrypt:.3f}"
    assert row["Add [s]"] == f"{add:.3f}"
    assert row["Decrypt [s]"] == f"{decrypt:.3f}"
    assert row["Critical path [s]"] == f"{encrypt / 4 + add + decrypt:.3f}"
    assert row["Keys [s]"] == f"{keys:.2f}"  # once, whatever was measured
    assert row["Round over plain"] == f"{1 + (encrypt + add + decrypt) / BASE_TRAIN_S:.2f}"
    assert (row["Up over plain"], row["Down over plain"]) == (f"{up:.2f}", f"{down:.2f}")
    assert (row["Up [kB]"], row["Down [kB]"]) == (f"{up * 80:.1f}", f"{down * 80:.1f}")
    assert (row["Encrypted [%]"], row["Bits"], row["Rounding"], row["Processes"]) == ("100", "16", "nearest", "1")
    assert row["Assumes"] == "what paillier rests on"


def test_a_share_of_the_offices_is_a_round_too() -> None:
    options = (("fraction", 0.5),)  # two of four: twice the bytes each, for the same in all
    row = costs(record(options=options), record(strategy="masked_sum", options=options))
    assert row["Up [kB]"] == "120.0"
    assert row["Up over plain"] == "0.75"


def test_medians_are_over_the_measured_runs_and_errors_over_all() -> None:
    runs = [*swept(("fedavg", "masked_sum")), record(strategy="masked_sum", partition="iid", seed=9, measured=25)]
    row = costs(*runs)
    assert row["Runs measured"] == "3 of 7"
    assert row["Rounds measured"] == "1 of 25"
    assert row["Encrypt [s]"] == "0.006"  # seconds of seeds 0, 0 and 9: the mean would be 0.0062
    assert row["Error"] == "2.8e-06"  # of seed 9
    assert row["Error bound"] == "4e-06"


def test_runs_are_held_against_plain_fedavg_of_their_settings() -> None:
    slow = msgspec.structs.replace(
        record(partition="by_person", clients=21, options=(("local_epochs", 5),)),
        cost=msgspec.structs.replace(record().cost, train_s=20.0),
    )
    runs = [
        record(),
        record(strategy="masked_sum"),
        slow,
        record(partition="by_person", clients=21, options=(("local_epochs", 5),), strategy="masked_sum"),
    ]
    table = protection_table(only_study(runs))
    assert table is not None
    # 10 ms over 0.08 s and over 0.8 s
    assert table.shown[["clients", "Round over plain"]].to_numpy().tolist() == [["4", "1.12"], ["21", "1.01"]]
    assert "whose offices train 0.08 to 0.8 s a round" in " ".join(table.caption)


def test_without_plain_fedavg_there_is_no_ratio() -> None:
    study = only_study(swept(STRATEGIES))
    table = protection_table(study)
    assert table is not None
    assert set(table.shown["Round over plain"]) == set(table.shown["Up over plain"]) == {"–"}
    assert table.shown.loc[0, "Encrypt [s]"] == "0.200"
    assert "There is no plain FedAvg to hold it against." in table.caption
    assert draw(study) == []


def test_what_was_not_measured_has_no_cost() -> None:
    study = only_study([record(), record(strategy="paillier", measured=0)])
    table = protection_table(study)
    assert table is not None
    row = table.shown.iloc[0]
    assert (row["Runs measured"], row["Rounds measured"]) == ("0 of 1", "0 of 25")
    for name in ("Encrypt [s]", "Critical path [s]", "Round over plain", "Keys [s]", "Up [kB]", "Encrypted [%]"):
        assert row[name] == "–", name
    assert row["Error"] == "1.5e-06"
    assert draw(study) == []


def test_offices_that_nobody_could_look_into_cost_nothing_here() -> None:
    unseen = (("clipped_share", None), ("error", None), ("error_bound", None))
    row = costs(record(), record(strategy="paillier", protection=unseen))
    assert row["Encrypt [s]"] == row["Clipped [%]"] == row["Error"] == "–"


def test_much_clipping_is_marked() -> None:
    for share, shown in ((0.001, "0.100"), (0.0011, "0.110 (!)")):
        runs = [record(), record(strategy="secagg", protection=(("clipped_share", share),))]
        assert costs(*runs)["Clipped [%]"] == shown
        table = protection_table(only_study(runs))
        assert table is not None
        assert ("(!): over 0.1 % of the values were clipped." in " ".join(table.caption)) == ("(!)" in shown)


def test_the_table_says_what_is_clipped() -> None:
    plain, follows = record(), record(strategy="secagg")
    assert costs(plain, follows)["Clip"] == "auto"
    assert "auto: the clip follows, layer by layer, the largest entries that the offices" in caption(plain, follows)
    assert "shares of noise" not in caption(plain, follows)
    given = record(strategy="secagg(clip=0.5)", protection=(("clip", 0.5),))
    assert costs(plain, given)["Clip"] == "0.5"
    assert "a larger entry is cut to it. Clipped: the share of all entries sent" in caption(plain, given)
    noisy = private(noise="shared", measured=1)
    assert "under shares of noise the bound that the noise is made for" in caption(plain, follows, noisy)


def test_a_record_that_does_not_say_its_clip_is_said_nothing_of() -> None:
    made = record(strategy="secagg")
    assert made.protection is not None
    older = msgspec.structs.replace(made, protection=msgspec.structs.replace(made.protection, clip=None))
    assert costs(record(), older)["Clip"] == "–"
    assert "Clip:" not in caption(record(), older)


def caption(*runs: RunRecord) -> str:
    table = protection_table(only_study(runs))
    assert table is not None
    return " ".join(table.caption)


def test_an_error_beyond_its_bound_is_that_of_a_clipped_entry() -> None:
    for share, error, shown in ((2e-5, 4e-6, "4e-06"), (2e-5, 0.044, "0.044 (c)"), (0.0, 5e-6, "5e-06")):
        runs = [record(), record(strategy="secagg", protection=(("clipped_share", share), ("error", error)))]
        assert costs(*runs)["Error"] == shown
        caption = " ".join(protection_table(only_study(runs)).caption)  # type: ignore[union-attr]
        assert ("(c): of one that was clipped." in caption) == ("(c)" in shown)


def test_the_naive_cost_is_extrapolated_and_says_so() -> None:
    naive = (("naive_encrypt_s", 2490.0), ("naive_decrypt_s", 700.0), ("naive_sample", 20))
    runs = record(), record(strategy="paillier", protection=naive)
    row = costs(*runs)
    assert row["Naive [s], extrapolated"] == "2490"
    assert row["Naive over ours"] == "4330"  # an office encrypts in a quarter of 2.3 s
    said = " ".join(protection_table(only_study(runs)).caption)  # type: ignore[union-attr]
    assert "by phe with gmpy2, extrapolated from 20 numbers" in said
    assert not any("Naive" in name for name in costs(record(), record(strategy="paillier")))


def test_the_table_says_that_other_rounds_ran_in_clear() -> None:
    table = protection_table(only_study(swept()))
    assert table is not None
    caption = " ".join(table.caption)
    assert "In rounds that were not measured the same integers travelled in clear, as in the plain twin" in caption
    assert "Seconds are measured: they differ by machine and by day. Machine: Xeon, Linux, AVX2." in caption


def test_who_learns_what() -> None:
    table = learns_table(only_study(swept(("fedavg", "secagg", "masked_sum"))))
    assert table is not None
    assert list(table.shown.columns) == ["Protocol", *PARTIES.values()]
    assert table.shown.set_index("Protocol").to_numpy().tolist() == [
        ["updates, sums, model", "model, sums", "all updates", "all updates"],
        ["nothing of updates, sums, model", "model, sums", "all updates", "all updates"],
        ["sums, hence the model up to its first weights", "model, sums", "no single update", "all updates"],
    ]
    assert list(table.shown["Protocol"]) == ["plain", "masked_sum", "secagg"]
    assert "secagg" in " ".join(table.caption)
    narrow = learns_table(only_study(swept(("fedavg", "masked_sum"))))
    assert narrow is not None
    assert "Server and t offices" not in narrow.shown
    assert "secagg" not in " ".join(narrow.caption)


def test_scores_of_the_twin_say_so() -> None:
    said = "18 protected runs ran as the plain twin, whose bits are the same by test, but for rounds whose cost was"
    study = only_study(swept(("fedavg", "masked_sum", "secagg", "paillier")))
    for table in (main_table, score_table):
        assert said in " ".join(table(study).caption)
    assert said not in " ".join(unevenness_table(study).caption)  # type: ignore[union-attr]
    for runs in (records(("iid",), seeds=2), [record(), record(strategy="masked_sum")]):
        assert "twin" not in " ".join(main_table(only_study(runs)).caption)


def test_costs_of_a_run_leave_samples_out() -> None:
    runs = [*swept(("fedavg", "masked_sum", "secagg")), record(strategy="masked_sum", partition="iid", seed=3)]
    table = costs_table(only_study(runs))
    shown = table.shown[table.shown["Partition"] == "iid"].set_index("Strategy")
    assert shown.loc["secagg", ["Train [s]", "Wall clock [s]", "Encrypt [s]", "Up [MB]"]].tolist() == [
        "2.00",
        *"–––",
    ]
    assert shown.loc["masked_sum", "Encrypt [s]"] == f"{25 * 0.006 * 1.03:.2f}", "of the run that measured all"
    assert shown.loc["fedavg", ["Wall clock [s]", "Up [MB]"]].tolist() == ["2.60", "8.00"]
    assert "Twelve protected runs measured protection in a sample of the rounds" in " ".join(table.caption)


def test_nothing_protected() -> None:
    for runs in ([record()], [record(), record(strategy="secagg", status="failed")]):
        study = only_study(runs)
        assert protection_table(study) is None
        assert draw(study) == []
    assert learns_table(only_study([record()])) is None
    assert "sample" not in " ".join(costs_table(only_study([record()])).caption)


def everything(study: Study) -> str:
    made = [protection_table(study), learns_table(study)]
    return "".join(form(one) for one in made if one is not None for form in (to_csv, to_markdown, to_latex, to_text))


def test_the_order_of_records_changes_nothing() -> None:
    runs = swept()
    wanted = everything(only_study(runs))
    random.Random(3).shuffle(runs)
    assert everything(only_study(runs)) == wanted


@pytest.fixture
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.parametrize(
    "strategies",
    [
        ("fedavg", "masked_sum"),
        ("fedavg", "quantised", *STRATEGIES),
        ("fedavg", *(f"paillier(bits={n}, inner=fedprox(mu=0.01))" for n in range(8, 24)), "secagg"),
        ("fedavg", *(f"{name}(bits={bits})" for name in PROTOCOLS for bits in range(8, 18))),
    ],
)
def test_the_figure_can_be_read(strategies: tuple[str, ...]) -> None:
    made = draw(only_study([record(strategy=one, measured=1) for one in strategies]), "client_lr 0.1")
    names = [text.get_text() for figure in made for text in figure.axes[0].get_yticklabels()]
    assert len(names) == len(strategies) - 1
    with style():
        for figure in made:
            can_be_read(figure)


def test_the_figure_shows_the_table() -> None:
    study = only_study(swept())
    (figure,) = draw(study)
    table = protection_table(study)
    assert table is not None
    wanted = table.raw.set_index("strategy")
    time, size = figure.axes
    names = [text.get_text() for text in time.get_yticklabels()]
    assert names == list(wanted.index)
    dots = [line for line in time.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx(wanted["round_over_plain"].astype(float))  # type: ignore[index]
    for marker, way in (("^", "up"), ("v", "down")):
        dots = [line for line in size.lines if line.get_marker() == marker]
        ratios = wanted[f"{way}_over_plain"].astype(float)
        assert [line.get_xdata()[0] for line in dots] == pytest.approx(ratios)  # type: ignore[index]
    assert time.get_xscale() == size.get_xscale() == "log"
    assert time.get_xlabel() == "Time of a round [plain = 1]"
    said = {text.get_text().replace("\n", " ") for text in size.texts}
    assert "server learns: nothing of updates, sums, model with one office: all updates" in said
    assert any("with one office: no single update" in words for words in said)
    heading = figure.legends[0].get_title().get_text()
    assert "Median of the measured rounds of two runs a row" in heading
    assert "whose offices train 0.08 s a round" in heading


def test_the_report_has_tables_and_figure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.reporting.index.FIGURES", {})  # drawing is what takes the time
    for one in swept(("fedavg", "masked_sum")):
        store.put(one)
    done = report(store, store.root / "out")
    names = {path.name for path in done.written}
    assert {"uci-har-protection.csv", "uci-har-learns.md", "uci-har-protection.pdf"} <= names
    index = done.index.read_text("utf-8")
    assert "UCI HAR: cost of protection ([PDF](figures/uci-har-protection.pdf)). Measured: seconds differ by" in index
    assert index.index("-protection.csv") < index.index("-learns.csv")


def test_ratios_are_finite() -> None:
    runs = protection.protected(only_study(swept()))
    ratios = runs.loc[runs["measured"], ["round_over_plain", "up_over_plain", "down_over_plain"]].to_numpy()
    assert np.isfinite(ratios).all()
    assert (ratios[:, 0] > 1).all()
