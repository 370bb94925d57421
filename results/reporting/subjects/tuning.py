"""What tuning found, and what it was worth on test rows. Accuracies in percent, differences in points.

`tuned_table` and `importance_table` are made of winners (`results.tuned.tuned`), whose values are validation
accuracies; `gains_table` is made of runs on test rows that seeds pair: the same cell with its default and with its
tuned values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from results.frame import ORIGIN
from results.reporting import captions, text, titles
from results.reporting.render import Table
from results.reporting.study import Study, natural, ordered, plain
from results.reporting.subjects.comparisons import NUMBERS, adjusted, against, columns, seeds_by, with_claims
from results.reporting.subjects.persons import accuracies
from results.statistics import half_width
from results.tuned.tuned import KEY, OPTIONAL, Winner, named_by, part

Pair = tuple[str, str]  # run_id of a default run, run_id of the tuned run of the same seed
_NAMED = ("partition", "strategy")  # of a winner's key: always columns
_PARTS = [name for name in (*KEY, *OPTIONAL) if name != "loss"]  # which is in the rule's name
LOCAL = (
    "Of local: each office's own model on that office's validation rows, which have no labels but its own; test scores "
    "compare it with the others, this does not."
)


def in_order(winners: Sequence[Winner]) -> list[Winner]:
    """Winners as tables list them: by data set, then partition and rule, each in the order that studies have."""
    keys = pd.DataFrame(map(_key, winners), columns=_PARTS)
    placed = keys.assign(**{name: ordered(keys[name], name).codes for name in _PARTS})
    by = ["dataset", "form", "test_persons", *_NAMED, "corrupt", "model", "clients", "fraction"]
    return [winners[place] for place in placed.sort_values(by, kind="stable").index]


def names_of(winners: Sequence[Winner]) -> list[dict[str, str]]:
    """What tells the winners apart: partition and rule, and other parts of the key that differ."""
    keys = [_key(one) for one in winners]
    differing = [name for name in _PARTS if name not in _NAMED and len({key[name] for key in keys}) > 1]
    return [{name: key[name] for name in (*differing, *_NAMED)} for key in keys]


def keys_of(winners: Sequence[Winner]) -> list[dict[str, str]]:
    """The winners' keys for programs: KEY, and what else any of them has."""
    names = [name for name in named_by(winners) if name in _PARTS]
    return [{name: key[name] for name in names} for key in map(_key, winners)]


def _key(winner: Winner) -> dict[str, str]:
    """A winner's key as text, its rule in the place of strategy and loss."""
    return {name: plain(part(winner, name)) for name in _PARTS} | {"strategy": winner.rule.text}


def tuned_table(
    winners: Sequence[Winner], data_hashes: Collection[str] = (), fixed_epochs: bool = False
) -> Table | None:
    """A row a tuned cell: the values that won, what they scored, what the default scored, what a run of them takes.

    Args:
        data_hashes: of the data that the report's runs were made on; a winner of other data says so.
        fixed_epochs: the local epochs of these winners were not tuned: a second table, of equal work in a round.
    """
    winners = in_order(winners)
    if not winners:
        return None
    shown: list[dict[str, str]] = []
    raw: list[dict[str, Any]] = []
    for one, names, key in zip(winners, names_of(winners), keys_of(winners), strict=True):
        best = one.finalists[0]
        numbers = {trial.number: trial for trial in one.trials}
        default = numbers[0].value if 0 in numbers else None
        content = str(one.study.get("data_hash", ""))
        other = bool(data_hashes) and content not in data_hashes
        params = numbers[best.number].params if best.number in numbers else {}
        won = " (the default)" if best.number == 0 else ""
        row = {
            "Tuned values": _values(params, digits=4) + won,
            "Fresh seeds [%]": f"{100 * best.fresh:.2f}",
            "In the study [%]": f"{100 * best.value:.2f}",
            "Default [%]": text.NOTHING if default is None else f"{100 * default:.2f}",
            "Rounds": str(one.cost.rounds),
            "Gradient steps": f"{one.cost.gradient_steps:.0f}",
            "Sent [10^6 bytes]": f"{one.cost.bytes / 1e6:.2f}",
            "Forward passes": f"{one.cost.forward_passes:.0f}",
            "Marks": f"tuned on other data ({content[: text.HASH] or 'unknown'})" if other else "",
        }
        shown.append(names | row)
        raw.append(
            key
            | {
                "tuned_values": _values(params),
                "winner_is_default": "true" if best.number == 0 else "false",
                "fresh_percent": 100 * best.fresh,
                "study_percent": 100 * best.value,
                "default_study_percent": None if default is None else 100 * default,
                "trials": len(one.trials),
                "pruned": sum(trial.state == "pruned" for trial in one.trials),
                "rounds": one.cost.rounds,
                "gradient_steps": one.cost.gradient_steps,
                "bytes": one.cost.bytes,
                "forward_passes": one.cost.forward_passes,
                "data_hash": content,
            }
        )
    caption = (
        "Accuracies on validation persons; no test row was open.",
        LOCAL * any(one.rule.arm == "local" for one in winners),
        "Fresh seeds: the five best trials were run again on seeds that the study had not seen, and the best of these "
        "won; in the study: the winner's value before, biased upward by being a maximum of many; default: its value in "
        "the study.",
        "Rounds, minibatches, bytes sent up and down and training rows put through the model: of one run with the "
        "winner's values, all offices together.",
        _search(winners),
        *_halving(winners),
    )
    left = len(names_of(winners)[0]) + 1
    name, title = ("tuned-fixed-epochs", ", local epochs fixed") if fixed_epochs else ("tuned", "")
    return _table(name, f"tuned hyper-parameters{title}", caption, pd.DataFrame(raw), pd.DataFrame(shown), left)


def importance_table(winners: Sequence[Winner]) -> Table | None:
    """Share of the variance of the trials' values that each parameter explains, a row a cell."""
    winners = [one for one in in_order(winners) if one.importance]
    if not winners:
        return None
    parameters = sorted({name for one in winners for name in one.importance}, key=natural)
    shown, raw = [], []
    for one, names, key in zip(winners, names_of(winners), keys_of(winners), strict=True):
        shares = {name: one.importance.get(name) for name in parameters}
        shown.append(
            names | {name: text.NOTHING if value is None else f"{100 * value:.0f}" for name, value in shares.items()}
        )
        percents = {f"{name}_percent": None if value is None else 100 * value for name, value in shares.items()}
        raw.append(key | percents)
    caption = (
        "Share [%] of the variance of the trials' values that each parameter explains; a row sums to 100.",
        f"{text.NOTHING}: the strategy does not have it.",
        "Of one study a cell: it says where the search saw a difference, not that there is none elsewhere.",
    )
    left = len(names_of(winners)[0])
    return _table("importance", "what tuning depends on", caption, pd.DataFrame(raw), pd.DataFrame(shown), left)


def gains_table(study: Study, pairs: Sequence[Pair], stale: int = 0) -> Table | None:
    """Tuned against default on test rows, paired by seed, losers first; None where none of the pairs is in the study.

    Args:
        pairs: run_id of a default run and of the tuned run of the same seed; one run where the default won the tuning.
    """
    joined = gained(study, pairs)
    if joined.empty:
        return None
    corrected, persons = adjusted(joined, "cell"), accuracies(study)
    names = named(study, study.scored[study.scored["run_id"].isin(joined["default_id"])])
    rows = [
        {
            "cell": cell,
            **{name: str(part[name].iloc[0]) for name in names},
            "default_won": bool((part["run"] == part["run_base"]).all()),
            **against(persons, part),
            **corrected.get(cell, {}),
        }
        for cell, part in joined.groupby("cell", sort=True)
    ]
    found = with_claims(study, pd.DataFrame(rows, columns=["cell", *names, "default_won", *NUMBERS]))
    found = found.sort_values(["difference", "cell"], kind="stable").reset_index(drop=True)
    mean = _mean_gain(joined)
    cell = found[names].rename(columns={"notation": "strategy"})
    shown = cell.assign(**columns(found, "Gain")).drop(columns="d_z")
    shown["Claim"] = shown["Claim"].mask(found["default_won"], "the default won")
    last = dict.fromkeys(shown.columns, "") | {
        "partition": f"mean over {captions.plural(len(found), 'cell')}",
        "Pairs": str(mean["pairs"]),
        "Gain [points]": text.points(*(pd.Series([mean[name]]) for name in ("difference", "half", "equal")))[0],
    }
    shown = pd.concat([shown, pd.DataFrame([last])], ignore_index=True)
    numbers = (
        "pairs",
        "difference",
        "half",
        "sd",
        "least",
        "p_step_down",
        "p_holm",
        "p_sign_flip",
        "p_wilcoxon",
        "d_z",
    )
    raw = cell.assign(
        default_won=found["default_won"].map({True: "true", False: "false"}),
        **{name: found[name] for name in (*numbers, "crossed", "crossed_half", "claim")},
    )
    bottom = {"partition": "mean over cells"} | {name: mean[name] for name in ("pairs", "difference", "half", "sd")}
    raw = pd.concat([raw, pd.DataFrame([bottom])], ignore_index=True)
    caption = (
        captions.seeds(found["pairs"]),
        "Score with tuned minus score with default hyper-parameters, on the same seed and partition; losers first.",
        "Mean ± half-width of its 95 % t interval over seeds; beside it the final model's over persons and seeds.",
        f"Family of the corrected p: the {captions.plural(len(found), 'cell')} of this table; step-down max-t by joint "
        "sign flips of seeds, none where a cell lacks seeds that others have. Where the default won there is nothing "
        "to test.",
        captions.claim(),
        "Mean over cells: every seed's mean over the cells, interval over seeds; it is about these cells alone.",
        _unpaired(study, pairs, names, joined["cell"]),
        *titles.ending(study, stale),
    )
    return titles.table(study, "gains", caption, raw.rename(columns=_CSV), shown, left=len(names))


_CSV = {"difference": "gain_points", "half": "half_width_points", "sd": "sd_points", "least": "least_detectable_points"}
_CSV |= {
    "crossed": "persons_and_seeds_gain_points",
    "crossed_half": "persons_and_seeds_half_width_points",
}


def gained(study: Study, pairs: Sequence[Pair]) -> pd.DataFrame:
    """The pairs whose runs are both scored in the study, on the same rows, a row a cell and seed.

    Returns:
        columns cell (its name), seed, run, run_base, score, score_base, difference (points), and those of `named`.
    """
    runs = study.scored.reset_index(names="run").drop_duplicates("run_id")
    kept = ["run_id", "run", "seed", "partition_hash", "score"]
    asked = pd.DataFrame(sorted(set(pairs)), columns=["default_id", "tuned_id"])
    names = named(study, runs[runs["run_id"].isin(asked["default_id"])])
    base = runs[[*kept, *names]].astype(dict.fromkeys(names, str))
    joined = asked.merge(base, left_on="default_id", right_on="run_id")
    joined = joined.merge(runs[kept], left_on="tuned_id", right_on="run_id", suffixes=("_base", ""))
    same = (joined["seed"] == joined["seed_base"]) & (joined["partition_hash"] == joined["partition_hash_base"])
    joined = joined[same].assign(
        difference=lambda one: 100 * (one["score"] - one["score_base"]),
        cell=lambda one: one[names].agg(", ".join, axis="columns") if len(one) else "",
    )
    return joined.sort_values(["cell", "seed"], kind="stable").reset_index(drop=True)


def named(study: Study, defaults: pd.DataFrame) -> list[str]:
    """What tells default cells apart: partition, strategy in full, and settings in which defaults of both differ."""
    free = [name for name in study.settings if name != ORIGIN]
    groups = defaults.groupby(["partition", "notation"], observed=True)
    return ["partition", "notation", *(name for name in free if (groups[name].nunique() > 1).any())]


def _unpaired(study: Study, pairs: Sequence[Pair], names: list[str], listed: Iterable[str]) -> str:
    """The cells of which no pair finished: they must not vanish."""
    defaults = study.primary[study.primary["run_id"].isin({default for default, _ in pairs})]
    lost = sorted(set(defaults[names].astype(str).agg(", ".join, axis="columns")) - set(listed))
    return f"No pair finished of: {'; '.join(lost)}." if lost else ""


def _mean_gain(joined: pd.DataFrame) -> dict[str, Any]:
    """Mean over cells of every seed that all cells have, then over seeds."""
    wide = seeds_by(joined, "cell", "difference").dropna()
    means = wide.mean(axis="columns")
    sd = float(means.std()) if len(means) > 1 else float("nan")
    equal = len(means) > 1 and float(means.max() - means.min()) <= 1e-10
    half = float(half_width(sd, len(means)))
    return {"pairs": len(means), "difference": float(means.mean()), "half": half, "sd": sd, "equal": equal}


def _values(params: dict[str, Any], digits: int | None = None) -> str:
    """Names and values, all digits of them or so many."""
    short = {name: float(f"{v:.{digits}g}") if digits and isinstance(v, float) else v for name, v in params.items()}
    return ", ".join(f"{name} {plain(value)}" for name, value in sorted(short.items())) or text.NOTHING


def _search(winners: Sequence[Winner]) -> str:
    """How the cells were tuned, where that is the same for all; else the range of trials."""
    counts = [len(one.trials) for one in winners]
    trials = captions.span(min(counts), max(counts), "trial")
    rounds = {plain(one.study.get("rounds")) for one in winners}
    held = {plain(one.study.get("validation")) for one in winners}
    parts = [f"Search: {trials} a cell"]
    parts += [f"of {rounds.pop()} rounds"] if len(rounds) == 1 and "none" not in rounds else []
    parts += [f"validation {held.pop()}"] if len(held) == 1 and "none" not in held else []
    return ", ".join(parts) + "."


def _halving(winners: Sequence[Winner]) -> list[str]:
    """What stopping early would have cost, where whole studies tell."""
    known = [one.halving_loses for one in winners if one.halving_loses is not None]
    if not known:
        return []
    low, high = (f"{100 * share:.0f}" for share in (min(known), max(known)))
    shown = low if low == high else f"{low} to {high}"
    studies = "one study" if len(known) == 1 else f"{len(known)} studies"
    return [
        f"Halving: in {studies} without it, it would have stopped the best trial in {shown} % of random deals of the "
        "trials into batches."
    ]


def _table(name: str, title: str, caption: tuple[str, ...], raw: pd.DataFrame, shown: pd.DataFrame, left: int) -> Table:
    across = 8 if len(shown.columns) - left > 8 else 0
    return Table(name, f"Tuning: {title}", caption, raw, shown.rename(columns=titles.CAPITAL), left, across)
