"""A run in a few lines, as the command line prints it: what it scored, what was promised, and what that cost."""

from __future__ import annotations

from experiments.federation.run import LAST_ROUNDS
from results.record import RunRecord
from results.rules import rule
from results.sections import Promise, given

CLIPPED_MUCH = 1e-3  # of the values: worth a warning


def describe(record: RunRecord) -> str:
    """A run in a few lines."""
    spec = record.spec
    what = rule(spec["strategy"], spec.get("loss"))
    lines = [f"run {record.run_id}: {what} on {record.data.title}, {spec['partition']}, {record.status}"]
    if spec.get("corrupt"):
        lines.append(f"corrupted: {spec['corrupt']}")
    final = record.final
    if final is not None:
        last = min(LAST_ROUNDS, len(record.rounds))
        rounds = "round" if last == 1 else f"{last} rounds"
        lines.append(f"score {percent(final.score)} (mean test accuracy of the last {rounds})")
        lines.append(f"final model: accuracy {percent(final.test_accuracy)}, macro F1 {percent(final.test_macro_f1)}")
        lines.append(
            f"offices on their validation rows: mean {percent(final.mean_office_accuracy)}, "
            f"worst {percent(final.worst_office_accuracy)}"
        )
        if final.mean_personal_accuracy is not None:
            own, worst = percent(final.mean_personal_accuracy), percent(final.worst_personal_accuracy)
            lines.append(f"their own models there: mean {own}, worst {worst}")
    lines += [f"note: {note}" for note in record.data.notes]
    cost = record.cost
    lines += left_out(record)
    lines += protected_by(record)
    lines += promised(record)
    lines += attacked(record)
    lines.append(f"{cost.wall_s:.1f} s, {cost.bytes_up / 1e6:.1f} MB up, {cost.bytes_down / 1e6:.1f} MB down")
    return "\n".join(lines)


def left_out(record: RunRecord) -> list[str]:
    """Offices that vanished in the middle of rounds, and updates that were refused; nothing where all went well."""
    lines = []
    for text, counts in (
        ("offices that vanished", {office.name: office.dropped for office in record.offices}),
        ("updates left out", {office.name: office.rejected for office in record.offices}),
    ):
        if any(counts.values()):
            which = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            rounds = f"{len(record.rounds)} round{'s' * (len(record.rounds) != 1)}"
            lines.append(f"{text}, in {rounds}: {sum(counts.values())} ({which})")
    return lines


def protected_by(record: RunRecord) -> list[str]:
    """What protection did to a run and cost it; nothing for a run without."""
    found, cost = record.protection, record.cost
    if found is None:
        return []
    rounds = max(found.measured_rounds, 1)
    lines = [
        f"{found.protocol}: {found.bits} bits, {found.rounding}; {percent(cost.encrypted_share)} of the "
        f"weights unreadable; assumes {found.assumption}",
        f"a round: {cost.encrypt_s / rounds:.2f} s to encrypt (all offices), {cost.add_s / rounds:.2f} s to add, "
        f"{cost.decrypt_s / rounds:.2f} s to open, on {cost.crypto_processes} processes; keys {cost.keygen_s:.1f} s",
    ]
    error, bound, clipped = given(found.error), given(found.error_bound), given(found.clipped_share)
    if error is not None and bound is not None:
        kept = " where nothing is clipped" * bool(clipped)
        lines.append(f"largest error of a mean: {error:.2g} (bound {bound:.2g}{kept})")
    if clipped:
        warning = "; that is much: set a number for clip that holds them" if clipped > CLIPPED_MUCH else ""
        lines.append(f"clipped: {cost.clipped} values, {percent(clipped)}{warning}")
    return lines


def promised(record: RunRecord) -> list[str]:
    """What differential privacy a run claims, for whom and against whom; nothing for a run that claims none."""
    found = record.privacy
    if found is None or found.relation is None:
        return []
    return [*promise(found), *(promise(found.local) if found.local else [])]


def promise(found: Promise) -> list[str]:
    """One promise, with all that it hangs on."""
    epsilon = "infinite" if found.epsilon is None else f"{found.epsilon:.4g}"
    crowd = given(found.simulated_units)
    begin = f"no promise, but what {crowd} units would be given: " if crowd else ""
    lines = [
        f"{begin}epsilon {epsilon} of one {found.unit} at delta {found.delta:g} ({found.accountant}; "
        f"neighbours: {found.relation}), against {found.observer}"
    ]
    for group, whose in (
        (found.group_person, "for the person with most"),
        (found.group_signal, "for the samples of one window"),
    ):
        if group and found.epsilon is not None and group.windows > 1:
            terms = f"(delta {found.delta:g}, {group.accountant or 'prv'})"
            much = "no promise" if group.epsilon is None else f"epsilon {group.epsilon:.4g} {terms}"
            lines.append(f"{whose}, {group.windows} windows: {much}")
    if found.noise_source == "reproducible":
        lines.append("the noise follows from the run's seed, for simulation: whoever knows it can take the noise off")
    return lines


def attacked(record: RunRecord) -> list[str]:
    """What an audit found, beside what is promised; nothing for a run without."""
    if record.privacy is None or record.privacy.audit is None:
        return []
    found, promised = record.privacy.audit, record.privacy.epsilon
    claim = f"epsilon {'infinite' if promised is None else f'{promised:.3g}'} is promised"
    claim = "nothing is promised" if record.privacy.mechanism == "none" else claim
    weak = promised is not None and found.ceiling < promised
    lines = [f"so few guesses could not refute epsilon {promised:.3g}, even all right"] if weak else []
    return [
        f"audit by {found.unit}, {claim}: {found.included} of {found.canaries} canaries were in; AUC "
        f"{'-' if found.auc is None else f'{found.auc:.3f}'}, true positives at 1 % false {percent(found.tpr_at_1pct)}",
        f"{found.right} of {found.guesses} guesses right: epsilon is at least {found.lower_bound:.2f} with "
        f"{100 * found.confidence:.0f} % confidence (all right: {found.ceiling:.2f}); {found.caveat}",
        *lines,
    ]


def percent(share: float | None) -> str:
    """A share for people; `-` where there were no rows to score."""
    return "-" if share is None else f"{100 * share:.2f} %"
