"""DP-FedAvg: differential privacy of whole clients, by clipped updates and noise on their sum.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, algorithm 1 with
flat clipping and the fixed-denominator estimator (2); with u_k = w_k - x the update of a client,

    d = (1 / m) (sum_{k in cohort} u_k min(1, C / ||u_k||) + N(0, sigma^2 C^2 I)),    x' = server_step(x, d)

m is a public number: the expected number of clients (under protection that of those who answer, which everybody
sees). Every client counts alike; weights by examples would move the mean by C n_max / N, and are refused.

    sampling=fixed      the run's own cohorts. No amplification is claimed: what counts is the most rounds that any
                        client takes part in
    sampling=poisson    every client by a coin of `--fraction`. Amplified, for observers who do not learn who took part

The server sees each clipped update and adds the noise, so the promise holds against other clients and readers of the
model, not against the server; under protection (`masked_sum(inner=dp_fedavg(...))`) the offices add shares of the noise
and it holds against the server, too. Neighbours differ by one client more or less. With four clients the unit is an
office, with one person each it is a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from strategies.base import (
    Change,
    Federation,
    Memory,
    Named,
    Prepared,
    Round,
    Setting,
    State,
    Strategy,
    StrategyError,
    Update,
    check_choice,
    check_range,
)
from strategies.fedavg import FedAvg
from strategies.privacy.terms import CentralPrivacy

SAMPLING = ("fixed", "poisson")


@dataclass(frozen=True)
class DpFedAvg(CentralPrivacy):
    """Without noise, and with a clip that no update reaches, it is its inner strategy weighted uniformly.

    Args:
        inner: what trains, and steps at the server; weighted uniformly.
        epsilon: of the whole run, above 0; or
        noise_multiplier: sigma, at least 0, and the epsilon that it comes to is reported (0: none).
        clip_norm: C, largest L2 norm of an update, above 0.
        delta: at most min(1e-5, 1 / (10 N)) of N clients.
        accountant: `prv` (numerical, tight) or `rdp`, which epsilon is solved by; both are reported.
        sampling: `fixed` or `poisson`, see above.
        curious: under protection, how many offices may pool what they know (with the server too under secagg alone).
        secure_rng: noise from the operating system's generator: not reproducible, as a deployment needs it.
    """

    dp: ClassVar[str] = "refused: it clips what has been trained; write dp_fedavg(inner=dp_sgd(...))"
    examples: ClassVar[Sequence[str]] = (
        "dp_fedavg(noise_multiplier=0.01)",
        "dp_fedavg(noise_multiplier=0.02, clip_norm=2, inner=fedprox(mu=0.1, weighting=uniform))",
    )

    inner: Strategy = field(default_factory=lambda: FedAvg(weighting="uniform"))
    clip_norm: float = field(default=1.0, kw_only=True)
    sampling: str = field(default="fixed", kw_only=True)

    def __post_init__(self) -> None:
        self.check_inner()
        if not self.inner.linear or self.inner.protected:
            raise StrategyError(
                f"{type(self.inner).__name__} cannot be noised centrally: the clip does not bound what one client does "
                "to its result, since its server does more than to form sums"
            )
        if self.inner.overrides("before", "after"):
            raise StrategyError(
                f"{type(self.inner).__name__} sends counts or moments before or after the rounds, and only updates are "
                "clipped"
            )
        if not self.inner.weighs_alike:
            raise StrategyError(
                f"{type(self.inner).__name__} weights clients by private counts, so that one client may move the mean "
                "by more than clip_norm / m: set weighting=uniform in it"
            )
        if self.inner.local_dp and self.inner.local_dp.means:
            raise StrategyError(
                "means=true releases each office's feature means under noise for one row or person, which a promise to "
                "whole clients does not cover: set means=false"
            )
        self.check_budget()
        check_range("clip_norm", self.clip_norm, 1e-9, 1e9)
        check_choice("sampling", self.sampling, SAMPLING)
        if self.secure_rng and self.sampling == "poisson":
            raise StrategyError(
                "sampling=poisson draws who takes part from the run's seed, which everybody knows, so secure_rng would "
                "promise more than it keeps: set sampling=fixed"
            )

    @property
    def linear(self) -> bool:
        """Under protection each office clips its own update, so that the sum is all that the server needs."""
        return self.inner.linear and type(self).aggregate is DpFedAvg.aggregate

    @property
    def central_dp(self) -> DpFedAvg:
        return self

    @property
    def protects(self) -> str | None:
        return "client"

    def check(self, setting: Setting) -> None:
        """Refuse a budget that no noise is enough for."""
        from strategies.privacy.plan import central_noise, check_pooled

        super().check(setting)
        check_pooled(setting)
        central_noise(self, setting)

    def prepare(self, setting: Setting) -> Prepared:
        """The noise of the sums, and what may be claimed afterwards."""
        from strategies.privacy.prepare import prepare_sums

        return prepare_sums(self, setting, self.inner.prepare(setting))

    def start(self, x: Any, federation: Federation) -> State:
        self.check_planned()
        return self.inner.start(x, federation)

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """The clipped update, as the model it leads to."""
        w_t = update.job.w
        change, after = self.change(update, memory)
        return {"w": (w_t + change).astype(w_t.dtype)}, after

    def change(self, update: Update, memory: Memory) -> tuple[Any, Memory]:
        """The clipped update itself (d,), to all its digits, and the memory.

        Raises:
            StrategyError: the inner strategy sends more, which nothing would clip.
        """
        self.check_planned()
        sent, after = self.inner.close(update, memory)
        more = sorted(set(sent) - {"w"})
        if more:
            raise StrategyError(
                f"{type(self.inner).__name__} sends more than an update ({', '.join(more)}), and only updates are "
                "clipped"
            )
        w = sent["w"]
        way = w.vector if isinstance(w, Change) else w.astype(np.float64) - update.job.w
        return self.clipped(np.asarray(way, np.float64)), after

    def clipped(self, u: Any) -> Any:
        """u min(1, C / ||u||); one that is not finite counts as none, or it would show in all of the sum."""
        norm = float(np.linalg.norm(u))
        if not norm < float("inf"):
            return np.zeros_like(u)
        return u if norm <= self.clip_norm else u * (self.clip_norm / norm)

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        """x' = server_step(x, d): clipped updates are added up, noised, and divided by m."""
        from strategies.privacy.noise import stream_of  # compiled

        self.check_planned()
        total = np.zeros(len(x))
        for update in updates["w"]:
            total += self.clipped(update)
        if self.plan.noise_multiplier:
            stream = stream_of(self.plan.entropy(round.number), self.secure_rng)
            total += stream.normals(len(total), self.plan.noise_multiplier * self.clip_norm)
        return self.inner.server_step(x, {"w": total / round.cohort}, state, round)

    def search_space(self) -> dict[str, Any]:
        """The clip; the inner strategy's own stay as they are written."""
        return {"clip_norm": (0.03, 3.0)}
