"""What protection costs, whom it protects against, and what it did to the numbers: two tables and a figure.

Costs are of one round, from the runs that computed some in earnest. A sweep does so for one round of one run of a cell;
in all other rounds the integers travel in clear and have the same bits. The base is plain FedAvg of the same study:

    round over plain = (t + encrypt + add + decrypt) / t,    t: seconds that FedAvg trains in a round

so that a protected strategy whose own training is slower is not charged for it. Seconds are measured and differ by
day; `learns_table` holds none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from results.reporting import captions, layout, text, titles
from results.reporting.render import Table
from results.reporting.study import Study
from results.reporting.style import DOUBLE, Look, shortened, wrapped
from results.rules import BASELINE

CLIPPED_MUCH = 1e-3  # share of the values: beyond it the clip shapes the result
PARTIES = {
    "server": "Server",
    "office": "One office",
    "server and one office": "Server and one office",
    "server and t offices": "Server and t offices",
}
PLAIN = dict(zip(PARTIES, ("updates, sums, model", "model, sums", "all updates", "all updates"), strict=True))
_PHASES = ["encrypt_s", "add_s", "decrypt_s", "critical_s"]
_COSTS = [*_PHASES, "keygen_s", "crypto_processes", "encrypted_share"]
_NAIVE = ["naive_encrypt_s", "naive_decrypt_s", "naive_sample"]
_BYTES = ["bytes_up", "up_over_plain", "bytes_down", "down_over_plain"]


def plain(study: Study) -> pd.DataFrame:
    """What plain FedAvg takes: medians over its runs, for every partition and panel.

    Returns:
        columns partition, the study's panels; plain_train_s (a round, all offices); plain_up, plain_down (bytes an
        office that takes part and round).
    """
    runs = study.primary
    runs = runs[(runs["status"] == "ok") & (runs["strategy"] == BASELINE)]
    rounds = study.frames.rounds.groupby("run").size().reindex(runs.index)
    messages = rounds * _cohort(runs)
    found = runs[["partition", *study.panels]].assign(
        plain_train_s=runs["train_s"] / rounds,
        plain_up=runs["bytes_up"] / messages,
        plain_down=runs["bytes_down"] / messages,
    )
    return found.groupby(["partition", *study.panels], observed=True, sort=True).median().reset_index()


def protected(study: Study) -> pd.DataFrame:
    """Protected runs that finished, a row each, with their costs a round; nan where no round was measured.

    Returns:
        columns of `frames.protection` and `plain`; `row` of the study; measured (whether any round was); encrypt_s,
        add_s, decrypt_s, critical_s, update_s (to encrypt one update); bytes_up, bytes_down (of an office that takes
        part); round_over_plain, up_over_plain, down_over_plain; and, of the run, keygen_s, crypto_processes and
        encrypted_share.
    """
    runs = study.primary[study.primary["status"] == "ok"]
    costs = runs[[*study.row, *_COSTS]].assign(cohort=_cohort(runs))
    found = study.frames.protection.merge(costs, left_on="run", right_index=True)
    found = found.merge(plain(study), how="left", on=["partition", *study.panels])
    # Where offices run in processes that the driver cannot look into, they counted nothing.
    found["measured"] = found["measured_rounds"].gt(0) & found["clipped_share"].notna()
    found[_COSTS] = found[_COSTS].where(found["measured"])
    rounds = found["measured_rounds"].where(found["measured"])
    found[_PHASES] = found[_PHASES].div(rounds, axis=0)
    spent = found["encrypt_s"] + found["add_s"] + found["decrypt_s"]
    found["round_over_plain"] = (found["plain_train_s"] + spent) / found["plain_train_s"]
    for way in ("up", "down"):
        found[f"bytes_{way}"] = found[f"measured_bytes_{way}"] / (rounds * found["cohort"])
        found[f"{way}_over_plain"] = found[f"bytes_{way}"] / found[f"plain_{way}"]
    found["update_s"] = found["encrypt_s"] / found["cohort"]
    return found


def _cohort(runs: pd.DataFrame) -> NDArray[np.float64]:
    """How many offices take part in a round."""
    clients = runs["clients"].astype(str).astype(float).to_numpy()
    fraction = runs["fraction"].astype(str).astype(float).to_numpy() if "fraction" in runs else 1.0
    return np.maximum(1.0, np.round(fraction * clients))


def protection_table(study: Study, stale: int = 0) -> Table | None:
    """Costs of a round by protected strategy, and what fixed point did; None where nothing was protected."""
    runs = protected(study)
    if runs.empty:
        return None
    by = ["strategy", *study.settings]
    found = _summary(runs, by)
    much, clipped = found["clipped_share"] > CLIPPED_MUCH, _clipped(found)
    columns = [name for name in found if name not in by]
    raw = found[by].astype(str).join(found[columns].apply(_full))
    shown = _shown(found, found[by].astype(str))
    caption = (
        "Of a round, median over the runs that measured some: encrypt (all offices), add (the server), decrypt (one "
        "office); critical path, for which real offices would wait: the slowest one's encryption, the additions and "
        "one decryption. Keys are made once a run and are in no round.",
        base(runs),
        "In rounds that were not measured the same integers travelled in clear, as in the plain twin; tests hold every "
        "protocol to have its bits.",
        _what_is_clipped(study, found["clip"]),
        "Error: the largest of any round, of an entry of the mean update, beside the bound where nobody clips."
        + " (c): of one that was clipped." * bool(clipped.any())
        + f" (!): over {100 * CLIPPED_MUCH:g} % of the values were clipped." * bool(much.any()),
        _naive(found["naive_sample"]),
        "Seconds are measured: they differ by machine and by day.",
        captions.machines(study.frames.runs.loc[runs.loc[runs["measured"], "run"]]),
        captions.provenance(study, stale),
    )
    return titles.table(study, "protection", caption, raw, shown, left=len(by), across=6)


def _summary(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row a strategy and settings: medians of the costs, the worst of the errors."""
    groups = runs.groupby(by, observed=True, sort=True)
    measured = runs[runs["measured"]].groupby(by, observed=True)["measured_rounds"].median()
    found = pd.DataFrame({"runs_measured": groups["measured"].sum(), "runs": groups.size()})
    found["rounds_measured"] = measured.reindex(found.index).fillna(0)
    found["all_rounds"] = groups["all_rounds"].median()
    medians = groups[[*_COSTS, "update_s", *_NAIVE, "plain_train_s", "round_over_plain", *_BYTES]].median()
    worst = groups[["clipped_share", "error", "error_bound"]].max()
    found = pd.concat([found, medians, worst, groups[["bits", "rounding", "clip", "assumption"]].first()], axis=1)
    found["naive_over_ours"] = found["naive_encrypt_s"] / found["update_s"]
    return found.reset_index()


def _clip(value: Any) -> str:
    """`auto`, a number, or that a record does not say."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) and value == value else text.NOTHING


def _what_is_clipped(study: Study, clips: pd.Series[Any]) -> str:
    """What the clip cuts, and where it comes from; empty where no record says."""
    if clips.isna().all():
        return ""
    shared = study.frames.privacy["noise"].eq("shared").any()
    automatic = (
        " auto: the clip follows, layer by layer, the largest entries that the offices had to send in the rounds before"
        + ", and under shares of noise the bound that the noise is made for" * bool(shared)
        + "."
    )
    return (
        "Clip: the largest absolute value that the grid holds for an entry of an update; a larger entry is cut to it."
        + automatic * bool(clips.eq("auto").any())
        + " Clipped: the share of all entries sent that were cut, the largest of any run."
    )


def _full(column: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers for the CSV by significant digits: seconds and errors are small."""
    return text.significant(column, 6, "") if pd.api.types.is_numeric_dtype(column) else column


def _clipped(found: pd.DataFrame) -> pd.Series[bool]:
    """Whether the largest error is that of a clipped entry."""
    return (found["error"] > found["error_bound"]) & (found["clipped_share"] > 0)


def _shown(found: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """The table as readers see it."""
    mark = {True: " (!)", False: ""}
    columns = {
        "Runs measured": _of(found["runs_measured"], found["runs"]),
        "Rounds measured": _of(found["rounds_measured"], found["all_rounds"]),
        "Encrypt [s]": text.numbers(found["encrypt_s"], 3),
        "Add [s]": text.numbers(found["add_s"], 3),
        "Decrypt [s]": text.numbers(found["decrypt_s"], 3),
        "Critical path [s]": text.numbers(found["critical_s"], 3),
        "Round over plain": text.numbers(found["round_over_plain"], 2),
        "Keys [s]": text.numbers(found["keygen_s"], 2),
        "Processes": text.numbers(found["crypto_processes"], 0),
        "Up [kB]": text.numbers(found["bytes_up"] / 1e3, 1),
        "Up over plain": text.numbers(found["up_over_plain"], 2),
        "Down [kB]": text.numbers(found["bytes_down"] / 1e3, 1),
        "Down over plain": text.numbers(found["down_over_plain"], 2),
        "Encrypted [%]": text.numbers(100 * found["encrypted_share"], 0),
        "Clip": found["clip"].map(_clip),
        "Clipped [%]": text.numbers(100 * found["clipped_share"], 3)
        + (found["clipped_share"] > CLIPPED_MUCH).map(mark),
        "Error": text.significant(found["error"]) + _clipped(found).map({True: " (c)", False: ""}),
        "Error bound": text.significant(found["error_bound"]),
        "Bits": text.numbers(found["bits"], 0),
        "Rounding": found["rounding"],
    }
    if found["naive_encrypt_s"].notna().any():
        columns["Naive [s], extrapolated"] = text.numbers(found["naive_encrypt_s"], 0)
        columns["Naive over ours"] = text.numbers(found["naive_over_ours"], 0)
    columns["Assumes"] = found["assumption"]
    return names.join(pd.DataFrame(columns))


def _of(some: pd.Series[float], whole: pd.Series[float]) -> pd.Series[str]:
    return text.numbers(some, 0) + " of " + text.numbers(whole, 0)


def _naive(samples: pd.Series[float]) -> str:
    if samples.isna().all():
        return ""
    return (
        "Naive: one update, a number a ciphertext by phe with gmpy2, extrapolated from "
        f"{samples.median():.0f} numbers, and over encrypting one update here."
    )


def base(runs: pd.DataFrame) -> str:
    """What protection is held against, in words.

    Args:
        runs: of `protected`.
    """
    seconds = runs["plain_train_s"].dropna()
    if seconds.empty:
        return "There is no plain FedAvg to hold it against."
    low, high = (f"{value:.2g}" for value in (seconds.min(), seconds.max()))
    trains = low if low == high else f"{low} to {high}"
    return (
        f"Plain: FedAvg with the same partition and settings, whose offices train {trains} s a round; a round over "
        "plain: that training and protection, over that training; bytes: of an office and round, up with its share of "
        "the sealed model that is kept for whoever comes back."
    )


def learns_table(study: Study, stale: int = 0) -> Table | None:
    """Who learns what, a row a protocol and one for none; None where nothing was protected."""
    protocols = dict(_protocols(study))
    if not protocols:
        return None
    parties = [party for party in PARTIES if party == "server" or any(party in sees for sees in protocols.values())]
    rows = []
    for protocol, sees in {"plain": PLAIN, **protocols}.items():
        row, learns = {"protocol": protocol}, text.NOTHING
        for party in parties:
            learns = row[party] = sees.get(party, learns)  # more curious parties learn no less
        rows.append(row)
    raw = pd.DataFrame(rows)
    caption = (
        "What a party learns of others by following the protocol and keeping what it sees; plain: any strategy without "
        "protection.",
        "t: as many offices as can take secagg's masks off, two thirds of them and one."
        * ("server and t offices" in parties),
        "Sums and models tell of the data too: bounding that is differential privacy's part.",
    )
    shown = raw.rename(columns={"protocol": "Protocol", **PARTIES})
    return titles.table(study, "learns", caption, raw, shown, left=len(parties) + 1)


def _protocols(study: Study) -> Iterator[tuple[str, dict[str, str]]]:
    """The protocols of a study in the order of its strategies, each with who learns what."""
    runs = study.primary[["strategy"]].merge(study.frames.protection, left_index=True, right_on="run")
    for _, run in runs.sort_values(["strategy", "run"], kind="stable").drop_duplicates("protocol").iterrows():
        yield run["protocol"], run["sees"] if isinstance(run["sees"], dict) else {}


@dataclass(frozen=True)
class _Group:
    """The rows of one protocol in the figure.

    Attributes:
        strategies: its rows.
        words: whom it protects against, in lines.
    """

    strategies: list[str]
    words: str

    @property
    def height(self) -> float:
        """In lines of text."""
        return max(ROW * len(self.strategies), self.words.count("\n") + 1) + 0.8


LINE = 0.135  # inches
ROW = 1.2  # lines a strategy
PAGE = 55.0  # lines
_RATIOS = ["round_over_plain", "up_over_plain", "down_over_plain"]
_INK = "#444444"
_UP: dict[str, Any] = {"marker": "^", "linestyle": ""}
_DOWN: dict[str, Any] = {"marker": "v", "linestyle": "", "markerfacecolor": "white"}


def protection(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Time and bytes of a round over plain FedAvg by protected strategy, with what the server learns under each.

    Nothing where no round was measured, or there is no plain FedAvg.
    """
    runs = protected(study).dropna(subset=["round_over_plain"]).astype({"strategy": str})
    if runs.empty:
        return []
    found = runs.groupby("strategy")[_RATIOS].median().reindex([name for name in look if name in set(runs["strategy"])])
    protocol = runs.groupby("strategy")["protocol"].first()
    groups = [
        _Group([name for name in found.index if protocol[name] == one], _words(sees))
        for one, sees in _protocols(study)
        if (protocol == one).any()
    ]
    counts = runs.groupby("strategy").size()
    shown = f"Median of the measured rounds of {captions.span(int(counts.min()), int(counts.max()), 'run')} a row"
    heading = layout.heading(study, "cost of protection", label, shown, base(runs).partition(";")[0])
    figures = []
    for page in _pages(groups):
        figure = Figure(figsize=(DOUBLE, LINE * sum(group.height for group in page) + 0.45))
        time, size = figure.subplots(1, 2, sharey=True)
        _rows(time, size, page, found, look)
        _scale(time, found[_RATIOS[:1]].to_numpy())
        _scale(size, found[_RATIOS[1:]].to_numpy())
        time.set_xlabel("Time of a round [plain = 1]")
        size.set_xlabel("Bytes of an office [plain = 1]")
        handles = [Line2D([], [], color=_INK, **mark) for mark in (_UP, _DOWN)]
        layout.above(figure, handles, ["bytes up", "bytes down"], heading)
        figures.append(figure)
    return figures


def _words(sees: dict[str, str]) -> str:
    """What the server learns, alone and with an office."""
    told = {"server learns": sees.get("server"), "with one office": sees.get("server and one office")}
    return "\n".join(wrapped(f"{who}: {what}", 34) for who, what in told.items() if what)


def _pages(groups: list[_Group]) -> Iterator[list[_Group]]:
    page: list[_Group] = []
    for group in groups:
        if page and sum(one.height for one in (*page, group)) > PAGE:
            yield page
            page = []
        page.append(group)
    yield page


def _rows(time: Axes, size: Axes, page: list[_Group], found: pd.DataFrame, look: dict[str, Look]) -> None:
    """A band a protocol, a row a strategy."""
    top, ticks = 0.0, {}
    for number, group in enumerate(page):
        middle = top + group.height / 2
        for panel in (time, size) if number % 2 else ():
            panel.axhspan(top, top + group.height, color="#f4f4f4", linewidth=0)
        for place, strategy in enumerate(group.strategies):
            height = middle + ROW * (place - (len(group.strategies) - 1) / 2)
            ticks[height] = shortened(strategy, 40)
            ratio, up, down = map(float, found.loc[strategy].to_numpy())
            colour = look[strategy].colour
            time.plot(ratio, height, color=colour, marker="o")
            written = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"
            time.annotate(written, (ratio, height), (5, 0), textcoords="offset points", va="center")
            size.plot(up, height - 0.2, color=colour, **_UP)  # apart, since they may be equal
            size.plot(down, height + 0.2, color=colour, **_DOWN)
        size.text(1.03, middle, group.words, transform=size.get_yaxis_transform(), va="center")
        top += group.height
    time.set_yticks(list(ticks), list(ticks.values()))
    time.set_ylim(top, 0)
    for panel in (time, size):
        panel.axvline(1, color=_INK, linewidth=0.8, linestyle=(0, (3, 2)))
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", visible=False)


def _scale(panel: Axes, values: NDArray[np.float64]) -> None:
    """A logarithmic axis with room for numbers; ticks at 1, 2 and 5, or at powers of ten where they would be many."""
    low, high = min(1.0, float(values.min())) / 1.25, max(2.0, float(values.max()))
    right = low * (high / low) ** 1.25 * 1.2
    steps = (1,) if right / low > 40 else (1, 2, 5)
    marks = [step * 10.0**power for power in range(-4, 7) for step in steps]
    panel.set_xscale("log")
    panel.set_xlim(low, right)
    panel.xaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= right]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
