"""A private run before round 1, with the report that its plan gives afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from strategies.base import Prepared, Setting
from strategies.privacy.plan import PrivacyPlan, central_noise, private_means, private_workloads
from strategies.privacy.terms import CentralPrivacy, LocalPrivacy


@dataclass(frozen=True)
class ReportedPlan(PrivacyPlan):
    """A plan that afterwards says what was spent."""

    def report(self, outcome: Any, cost: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was spent, by office and in all, and what the claim rests on; and no cost."""
        from strategies.privacy.report import claim

        return claim(self, outcome), {}


def prepare_steps(ours: LocalPrivacy, setting: Setting, inner: Prepared) -> Prepared:
    """A run whose local steps are private."""
    workloads = tuple(private_workloads(ours, setting, inner.workloads))
    plan = ReportedPlan(setting, workloads, local=ours)
    return replace(
        inner,
        strategy=ours.planned(inner.strategy, plan),
        workloads=workloads,
        shift=partial(private_means, setting) if ours.means else inner.shift,
        unresumable="a run that goes on in parts would release its feature means anew: set secure_rng=false"
        if ours.means and ours.secure_rng
        else inner.unresumable,
        privacy=plan,
    )


def prepare_sums(ours: CentralPrivacy, setting: Setting, inner: Prepared) -> Prepared:
    """A run whose sums are private."""
    before = inner.privacy or ReportedPlan(setting, inner.workloads)
    plan = replace(before, central=ours, noise_multiplier=central_noise(ours, setting))
    return replace(
        inner,
        strategy=ours.planned(inner.strategy, plan),
        rejects=False,  # who is left out would depend on the others
        poisson=ours.sampling == "poisson",
        privacy=plan,
    )
