"""What the offices of a strategy send under protection, as one flat vector.

    | vectors, entry by entry | what the next clip follows, a number a layer | numbers of the strategy |

Nothing declares it: a strategy's own `close` is called on a made-up update, and what it returns has the names and sizes
of what it will send. Each vector of the model's length has the model's layers; any other array is one layer.

A *number* of the strategy (FedExP's |d|^2, q-FedAvg's h) is never clipped: it travels as a fixed point of 160 bits,

    round(p_k u 2^80) + 2^159,    |u| < 2^63

in digits, each in a slot that a sum over all offices cannot leave. Its mean is off by K 2^-81 at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.base import Change, Federation, Named, Received, Strategy, Update
from strategies.crypto.streams import ProtectionError
from strategies.protection import clip as clips

Floats = NDArray[np.float64]

FRACTION, WIDTH = 80, 160  # bits of a number behind the point, and in all
LARGEST = 2.0 ** (WIDTH - 1 - FRACTION - 16)  # of a number, with room for the sum over all offices
SUPPOSED_LOSS = 8.0  # of the made-up update: more than any sensible model's first loss


@dataclass(frozen=True)
class Layout:
    """Names and sizes of what is sent.

    Attributes:
        vectors: name and shape of every vector or array, in the order of the flat vector; `w` is the model's change.
        layers: lengths of the layers of all of them.
        numbers: names of the numbers.
    """

    vectors: tuple[tuple[str, tuple[int, ...]], ...]
    layers: tuple[int, ...]
    numbers: tuple[str, ...] = ()

    @property
    def dimension(self) -> int:
        """Length of the flat vector."""
        return sum(self.layers)

    def flat(self, sent: Named, w: Any) -> tuple[Floats, list[float]]:
        """What `close` sent as one vector (dimension,) in float64, and the numbers.

        Args:
            w: the model that training started from, which a model is sent as a change from.

        Raises:
            ProtectionError: names or shapes are other than they were supposed to be.
        """
        arrays = {**sent, "w": change_of(sent, w)}
        found = tuple((name, np.shape(value)) for name, value in arrays.items() if np.ndim(value))
        if sorted(found) != sorted(self.vectors) or len(arrays) != len(found) + len(self.numbers):
            raise ProtectionError(f"it sends {dict(found)}; expected {dict(self.vectors)} and {list(self.numbers)}")
        parts = [np.asarray(arrays[name], np.float64).ravel() for name, _ in self.vectors]
        return np.concatenate(parts), [float(arrays[name]) for name in self.numbers]

    def named(self, flat: Floats, numbers: Sequence[float]) -> dict[str, Any]:
        """Back from `flat`, by name."""
        ends = np.cumsum([math.prod(shape) for _, shape in self.vectors])[:-1]
        parts = np.split(flat, ends)
        vectors = {name: part.reshape(shape) for (name, shape), part in zip(self.vectors, parts, strict=True)}
        return vectors | dict(zip(self.numbers, numbers, strict=True))

    def split(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """A flat vector layer by layer."""
        return np.split(flat, np.cumsum(self.layers)[:-1])


def change_of(sent: Named, w: Any) -> Floats:
    """The change (d,) in what `close` sent, in float64."""
    model = sent["w"]
    return np.asarray(model.vector, np.float64) if isinstance(model, Change) else model.astype(np.float64) - w


def supposed(strategy: Strategy, received: Received, federation: Federation, change: Any, steps: int) -> Named:
    """What an office would send whose training changed the model by `change` in so many steps."""
    state = strategy.start(received["w"], federation)
    received = replace(received, named={**received.named, **strategy.broadcast(state)}, steps=steps)
    jobs = strategy.open(received, {})
    jobs = list(jobs) if isinstance(jobs, Sequence) else [jobs]
    updates = [Update(job, job.w + change, 1, steps, SUPPOSED_LOSS, SUPPOSED_LOSS) for job in jobs]
    sent, _ = strategy.close(replace(updates[0], others=tuple(updates[1:])), {})
    return {**sent, "w": change_of(sent, jobs[0].w)}


def layout_of(sent: Named, model_layers: tuple[int, ...]) -> Layout:
    """The layout of what would be sent; `w` comes first."""
    d = sum(model_layers)
    vectors = tuple((name, np.shape(value)) for name, value in sent.items() if np.ndim(value))
    layers: tuple[int, ...] = ()
    for _, shape in vectors:
        layers += model_layers if shape == (d,) else (math.prod(shape),)
    return Layout(vectors, layers, tuple(name for name, value in sent.items() if not np.ndim(value)))


def first_clip(
    layout: Layout, strategy: Strategy, received: Received, federation: Federation, steps: int
) -> NDArray[np.float64]:
    """C of round 1, (layers,): of the model's change by its first weights, of all else by what a change of that size
    would make of it."""
    model = received["w"]
    change = np.repeat(clips.first(np.split(model, np.cumsum(received.layout)[:-1])), received.layout)
    with np.errstate(all="ignore"):
        sent = supposed(strategy, received, federation, change, steps)
    flat, _ = layout.flat({**sent, "w": Change(sent["w"])}, model)
    found = clips.largest(layout.split(flat))
    return np.where((found > 0) & np.isfinite(found), found, 1.0)


def digits(value: float, share: float, bits: int, offices: int) -> NDArray[np.uint32]:
    """A number, weighted by the office's share, in slots of `bits` bits.

    Raises:
        ProtectionError: it is too large, or not finite; it is never clipped.
    """
    if not abs(value) < LARGEST:
        raise ProtectionError(f"a number to be summed must be below {LARGEST:.3g}; found {value!r}")
    whole = round(Fraction(value) * Fraction(share) * 2**FRACTION) + 2 ** (WIDTH - 1)
    width = clips.width(bits, offices)
    return np.array([whole >> at & (1 << width) - 1 for at in range(0, WIDTH, width)], np.uint32)


def number(total: NDArray[np.uint32], shares: Sequence[float], bits: int, offices: int) -> float:
    """The weighted mean of a number, from the sum of the slots of the offices with these shares."""
    width = clips.width(bits, offices)
    whole = sum(int(part) << at for at, part in zip(range(0, WIDTH, width), total, strict=True))
    whole -= len(shares) * 2 ** (WIDTH - 1)
    return float(Fraction(whole, 2**FRACTION) / Fraction(sum(shares)))


def slots_of_a_number(bits: int, offices: int) -> int:
    """How many slots of `bits` bits a number takes in a sum of `offices`."""
    return -(-WIDTH // clips.width(bits, offices))
