"""What every protected strategy says of itself: its options, its protocol, and who learns what.

    masked_sum(inner=fedprox(mu=0.01), bits=12)

runs the inner strategy, which must be linear (the server forms weighted sums and nothing else), on updates in fixed
point whose sum the server cannot read. Training, weights and server step are the inner strategy's; protection adds the
grid that updates are rounded to and, for an update beyond the clip, its clipping.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from strategies.base import Strategy, StrategyError, check_choice, check_range
from strategies.crypto.fixed_point import ROUNDINGS, FixedPoint
from strategies.crypto.streams import ProtectionError
from strategies.fedavg import FedAvg
from strategies.protection.protocol import Adder, Form, KeyHolder
from strategies.protection.sees import Sees
from strategies.protection.sums import Bytes
from strategies.protection.vault import Vault
from strategies.wrapper import Wrapper

AUTO = "auto"
NARROW = 16  # below so many bits rounding to nearest would lose small updates


@dataclass(frozen=True)
class ProtectionOptions(Wrapper):
    """All of a protected strategy but what it does before a run (`strategies.protection.base.Protected`).

    Args:
        inner: the strategy whose sums are protected; a linear one.
        bits: width of a number on the wire, 8 to 32.
        rounding: `nearest`, `feedback` (what was not sent is added in the next round), `stochastic`, or `auto`:
            nearest from 16 bits on and with shares of noise, feedback below.
        clip: largest absolute value of an update's entries that the grid holds; `auto` follows, layer by layer, the
            largest entry that any office sent in the last sum.
        min_offices: as few as may add up to a sum; the offices refuse to open one of fewer.
        allow_two: with two contributors each has the other's update by subtraction; only so may min_offices be 2.
    """

    protected: ClassVar[bool] = True
    twin: ClassVar[str | None] = "quantised"
    dp: ClassVar[str] = "refused: noise goes inside protection, not around it"
    encrypted_share: ClassVar[float] = 1.0  # of the weights
    assumption: ClassVar[str]  # see `assumes`
    sees: ClassVar[Mapping[str, Sees]]  # who learns what: server, office, server and one office, ... and t offices

    inner: Strategy = field(default_factory=FedAvg)
    bits: int = field(default=16, kw_only=True)
    rounding: str = field(default=AUTO, kw_only=True)
    clip: Any = field(default=AUTO, kw_only=True)
    min_offices: int = field(default=3, kw_only=True)
    allow_two: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self.check_inner()
        if isinstance(self.inner, ProtectionOptions):
            raise StrategyError(f"inner={type(self.inner).__name__} is protected already; protect a sum once")
        if not self.inner.linear:
            raise StrategyError(
                f"{type(self.inner).__name__} cannot be protected: it is not linear, its server does more with updates "
                "than to form weighted sums, and under protection it sees none"
            )
        check_range("bits", self.bits, 8, 32)
        check_choice("rounding", self.rounding, (AUTO, *ROUNDINGS))
        if self.clip != AUTO:
            if isinstance(self.clip, bool) or not isinstance(self.clip, int | float):
                raise StrategyError(f"clip must be a number above 0, or auto; found {self.clip!r}")
            object.__setattr__(self, "clip", float(self.clip))  # 1 and 1.0 are one
            check_range("clip", self.clip, 1e-30)
        self._check_noise()
        if self.min_offices < 3 and not (self.min_offices == 2 and self.allow_two):
            raise StrategyError(
                f"min_offices must be at least 3; found {self.min_offices}. Of two contributors each has the other's "
                "update by subtraction; allow_two=true takes that"
            )

    def _check_noise(self) -> None:
        """Refuse what noise shares are not made for."""
        if not self.noised:
            return
        central, local = self.inner.central_dp, self.inner.local_dp
        if central is None and self.inner.overrides("close"):
            raise StrategyError(
                "noise=shared is added to the updates that offices send, and what else the inner strategy sends would "
                "go without: set noise=own"
            )
        if central and local and local.noise == "shared":
            raise StrategyError("dp_fedavg and dp_sgd(noise=shared) would share one noise: take one of them")
        if central and central.sampling == "poisson":
            raise StrategyError(
                "sampling=poisson counts on nobody's knowing who takes part, and the server sees who answers: set "
                "sampling=fixed"
            )
        if self.rounds_by == "feedback":
            raise StrategyError(
                "rounding=feedback sends in a later round what this round's noise was made for; set rounding=nearest"
            )
        curious = central.curious if central else local.curious if local else 0
        if curious >= self.min_offices:
            raise StrategyError(
                f"curious={curious} offices would know all noise of a sum of min_offices={self.min_offices}: "
                "raise min_offices"
            )

    @property
    def noised(self) -> bool:
        """Whether offices add shares of noise to what they send."""
        local = self.inner.local_dp
        return self.inner.central_dp is not None or (local is not None and local.noise == "shared")

    @property
    def rounds_by(self) -> str:
        """The rounding, `auto` resolved."""
        if self.rounding != AUTO:
            return self.rounding
        return "nearest" if self.bits >= NARROW or self.noised else "feedback"

    def grid_of(self, offices: int) -> FixedPoint:
        """The fixed point for a number of offices.

        Raises:
            StrategyError: too many for so few bits.
        """
        try:
            return FixedPoint(self.bits, offices)
        except ProtectionError as error:
            raise StrategyError(str(error)) from None

    @property
    def assumes(self) -> str:
        """What its secrecy rests on, for tables."""
        return self.assumption

    # What a protocol adds.

    def make_keys(self, offices: int, processes: int = 1) -> dict[str, str]:
        """Keys of a run of so many offices for its vault, by name; none beyond the offices' secret by default."""
        return {}

    @property
    def key_kind(self) -> object:
        """What decides which keys will do: runs of one kind could share a set."""
        return type(self)

    @abstractmethod
    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        """The offices' side of the protocol in one process; `processes` may share its work."""

    @abstractmethod
    def adder(self, public: Bytes, form: Form) -> Adder:
        """The server's side, from what the offices publish; nothing, where no round will be computed in earnest."""

    @property
    def fixed_clip(self) -> float | None:
        """The clip, or None where it follows the sums."""
        return None if self.clip == AUTO else float(self.clip)

    def search_space(self) -> dict[str, Any]:
        """Nothing of its own: what is to be tuned is the inner strategy. What that forbids stays forbidden."""
        own = {one.name for one in fields(self.inner)}  # type: ignore[arg-type]
        return {name: choices for name, choices in self.inner.search_space().items() if name not in own}
