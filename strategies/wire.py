"""How models travel: one flat float32 array `w` in a Flower record.

The layout (names and shapes of the layers) stays with the clients, so the server needs no knowledge of the model.
Further vectors of a strategy are rows of the same record. In process an array is passed as it is: Flower's own
`Array` holds NumPy's serialised bytes and decodes them at each use, which for 30 clients costs more than the
aggregation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from strategies.base import Update

KEY = "w"
Kind = TypeVar("Kind", ArrayRecord, ConfigRecord, MetricRecord)
Record = TypeVar("Record", ArrayRecord, MetricRecord, RecordDict)


class NumpyArray(Array):
    """A Flower `Array` that keeps its ndarray and serialises it only when something leaves the process."""

    _ndarray: NDArray[Any]

    def __init__(self, ndarray: NDArray[Any]) -> None:
        # Set at once: Flower's `__setattr__` would clear what it caches of each.
        self.__dict__.update(dtype=_name(ndarray.dtype), shape=ndarray.shape, stype="numpy.ndarray", _ndarray=ndarray)

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes Flower would send."""
        return Array(self._ndarray).data

    def numpy(self) -> NDArray[Any]:
        """The array itself, not a copy: read-only by convention."""
        return self._ndarray

    def deflate(self) -> bytes:
        """As a plain `Array`: the type's name is part of what is sent, and the receiver knows Flower's alone."""
        return Array(self._ndarray).deflate()

    def __reduce__(self) -> tuple[type[NumpyArray], tuple[NDArray[Any]]]:
        return NumpyArray, (self._ndarray,)


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return str(dtype)  # NumPy puts it together anew each time, in as long as a short message takes


def pack(w: NDArray[Any]) -> ArrayRecord:
    """A record that carries one array, (d,) or one row a client."""
    return _with(_NO_ARRAYS, {KEY: NumpyArray(w)})  # the constructor would copy it into a serialised Array


def unpack(record: ArrayRecord) -> NDArray[Any]:
    """The one array of a record, as (d,) or (rows, d)."""
    array: Array = next(iter(_held(record).values()))
    return array.numpy()


def arrays_of(content: RecordDict) -> ArrayRecord:
    """The first array record of a message (Flower's own `array_records` builds a new dictionary at every look)."""
    return _first(content, ArrayRecord)


def config_of(content: RecordDict) -> ConfigRecord:
    """The first configuration of a message."""
    return _first(content, ConfigRecord)


def metrics_of(content: RecordDict) -> MetricRecord:
    """The first metrics of a reply."""
    return _first(content, MetricRecord)


def _first(content: RecordDict, kind: type[Kind]) -> Kind:
    for record in _held(content).values():
        if isinstance(record, kind):
            return record
    raise KeyError(f"the message has no {kind.__name__}; it holds {', '.join(content) or 'nothing'}")


def decode(content: RecordDict) -> None:
    """Decode a message's arrays in place, once for all who share them."""
    for record in content.values():
        if isinstance(record, ArrayRecord):
            for name, array in record.items():
                if not isinstance(array, NumpyArray):
                    record[name] = NumpyArray(array.numpy())


_NO_ARRAYS, _NO_RECORDS = ArrayRecord(), RecordDict()


def _held(record: Any) -> dict[str, Any]:
    """What a Flower record holds, without the view that Flower makes of it at every look."""
    held: dict[str, Any] = vars(record)["_data"]
    return held


def _with(record: Record, items: dict[str, Any]) -> Record:
    """A copy of a Flower record with further items, which Flower would check one by one."""
    copied, own = object.__new__(type(record)), vars(record)
    vars(copied).update(
        _check_key_fn=own["_check_key_fn"], _check_value_fn=own["_check_value_fn"], _data={**own["_data"], **items}
    )
    return copied


def altered(original: Any, changes: dict[str, Any]) -> Any:
    """A copy of a message or its metadata with other attributes, which Flower would check, for thrice as long."""
    copied = object.__new__(type(original))
    vars(copied).update(vars(original), **changes)
    return copied


def addressed(content: RecordDict, nodes: Sequence[int], kind: str) -> list[Message]:
    """One message to each of several nodes."""
    if not nodes:
        return []
    first = Message(content, dst_node_id=nodes[0], message_type=kind)
    others = [altered(first, {"_metadata": altered(first.metadata, {"_dst_node_id": node})}) for node in nodes[1:]]
    return [first, *others]


def reply(update: Update) -> RecordDict:
    """The trained model with the counts a server may weight by, and the training loss where it may be known."""
    metrics = _counts(update.num_examples, update.num_batches)
    if update.train_loss is not None:
        metrics = _with(metrics, {"train_loss": update.train_loss})
    return _with(_NO_RECORDS, {"arrays": pack(update.w), "metrics": metrics})


@lru_cache(maxsize=1024)
def _counts(num_examples: int, num_batches: int) -> MetricRecord:
    """What a client reports alike in every round."""
    # One client: the weight of `weighting=uniform`.
    return MetricRecord({"num-examples": num_examples, "num-batches": num_batches, "num-clients": 1})


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the arrays in a message, which grow with the model. Flower's envelope, some hundred bytes, is not in."""
    total = 0
    for record in _held(content).values():
        if isinstance(record, ArrayRecord):
            for array in _held(record).values():
                total += nbytes(array)
    return total


def nbytes(array: Array) -> int:
    """Bytes of an array's numbers."""
    if isinstance(array, NumpyArray):
        return array.numpy().nbytes
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize
