"""DP-SGD at every office: what leaves it has been clipped and noised, unit by unit and step by step.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep Learning with Differential Privacy, CCS 2016, algorithm 1:

    g = (1 / B) (sum_{i in batch} g_i min(1, C / ||g_i||) + N(0, sigma^2 C^2 I))

and then whatever the inner strategy makes of g: a drift towards the model received, momentum, the server's mean and
its step. All of that comes after the noise and costs nothing (post-processing), which is why the inner strategy has to
declare `dp = "after_noise"`.

    unit=window    a row. It is in a step with probability B / n_k (Poisson sampling), and B is the public divisor,
                   whatever number was drawn. Rows are disjoint between offices: the worst office's epsilon counts
    unit=person    all rows of a person. Every person is in every step (no amplification is claimed), g_i is the mean
                   over the person's rows, the divisor the office's number of persons. A person who is in several
                   offices spends in each of them; the budget is for all together

sigma is solved once for the whole training, with the office's own sampling rate and number of steps. Neighbours differ
by one unit more or less (add or remove). Epsilon is that of one run: tuning is outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from strategies.base import (
    Federation,
    Job,
    Memory,
    Prepared,
    Received,
    Setting,
    State,
    Strategy,
    StrategyError,
    check_choice,
    check_range,
)
from strategies.fedavg import FedAvg
from strategies.privacy.terms import LocalPrivacy

UNITS = ("window", "person")
NOISE = ("own", "shared")


@dataclass(frozen=True)
class DpSgd(LocalPrivacy):
    """Without noise and with a clip that nothing reaches it is its inner strategy under Poisson sampling.

    Args:
        inner: what trains; its extra terms must act after the noise.
        epsilon: of the whole run, above 0; or
        noise_multiplier: sigma, at least 0, and the epsilon that it comes to is reported (0: none).
        unit: `window` or `person`, what is protected.
        clip_norm: C, above 0; `none`, where there is no noise either, clips nothing.
        delta: at most min(1e-5, 1 / (10 N)) of N units in the federation.
        accountant: `prv` (numerical, tight) or `rdp`, which epsilon is solved by; both are reported.
        noise: `own` (each office's suffices by itself) or `shared` (shares of one noise, inside a protected sum).
        curious: with shared noise, how many offices may pool what they know (with the server too under secagg alone).
        means: release every office's feature means once, from the same budget, and train on rows less their mean.
        simulate: noise as small as so many units would make it, on the units there are: a simulation of a larger
            federation, and no claim for this one. Records and tables mark it.
        secure_rng: noise and coins from the operating system's generator: not reproducible, as a deployment needs it.
    """

    dp: ClassVar[str] = "refused: its gradients are noised already"
    private: ClassVar[bool] = True
    examples: ClassVar[Sequence[str]] = (
        "dp_sgd(epsilon=8)",
        "dp_sgd(inner=fedprox(mu=0.1), noise_multiplier=0.5, clip_norm=0.5)",
        "dp_sgd(noise_multiplier=0, clip_norm=none)",
    )

    inner: Strategy = field(default_factory=FedAvg)
    unit: str = field(default="window", kw_only=True)
    clip_norm: float | None = field(default=1.0, kw_only=True)
    noise: str = field(default="own", kw_only=True)
    means: bool = field(default=False, kw_only=True)
    simulate: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.check_inner()
        if self.inner.dp != "after_noise":
            raise StrategyError(
                f"{type(self.inner).__name__} cannot train under DP-SGD: {self.inner.dp.removeprefix('refused: ')}"
            )
        if self.inner.overrides("probe", "before", "after"):
            raise StrategyError(
                f"{type(self.inner).__name__} takes gradients, counts or moments of the rows that are neither clipped "
                "nor noised"
            )
        self.check_budget()
        check_choice("unit", self.unit, UNITS)
        check_choice("noise", self.noise, NOISE)
        if self.simulate is not None:
            check_range("simulate", self.simulate, 1)
        if self.clip_norm is not None:
            check_range("clip_norm", self.clip_norm, 1e-9, 1e9)
        elif self.noise_multiplier != 0:
            raise StrategyError("clip_norm=none bounds nothing, so no noise is enough; add noise_multiplier=0")
        if self.noise == "shared" and not self.inner.weighs_alike:
            raise StrategyError(
                "noise=shared needs weighting=uniform in its inner strategy: by examples, one row in a large office "
                "would move the mean more than the noise is made for"
            )

    @property
    def local_dp(self) -> DpSgd:
        return self

    @property
    def protects(self) -> str | None:
        return self.unit

    def start(self, x: Any, federation: Federation) -> State:
        """The inner strategy's state; a server without the plan has offices that train without noise."""
        self.check_planned()
        return super().start(x, federation)

    def open(self, received: Received, memory: Memory) -> Job | Sequence[Job]:
        """The inner strategy's jobs; the plan says how their steps are made private."""
        self.check_planned()
        return self.inner.open(received, memory)

    def check(self, setting: Setting) -> None:
        """Refuse options that leave something un-noised."""
        from strategies.privacy.plan import check_steps

        super().check(setting)
        check_steps(self, setting)

    def prepare(self, setting: Setting) -> Prepared:
        """Private steps for every client, its feature means' release, and what may be claimed afterwards."""
        from strategies.privacy.prepare import prepare_steps

        return prepare_steps(self, setting, self.inner.prepare(setting))

    def search_space(self) -> dict[str, Any]:
        """The clip; the inner strategy's own stay as they are written."""
        space: dict[str, Any] = {} if self.clip_norm is None else {"clip_norm": (0.1, 10.0)}
        if self.unit == "person":
            space["batch_size"] = ["full"]
        if self.noise == "shared":  # one step a round
            space |= {"batch_size": ["full"], "local_epochs": [1]}
        return space
