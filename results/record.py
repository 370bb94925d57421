"""The record of one run: everything that its tables, figures and checks are made from.

The spellings are a contract: they are the keys of the JSON files, the columns of the Parquet file and, mostly, of the
data frames. A field that is added gets a default, so that older files stay readable; a field that changes its meaning
gets a new name; anything else takes a new `SCHEMA` number. Fields that this version does not know are ignored.

Accuracies and F1 are in [0, 1]; times are in seconds; a number that is not finite is null.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from results import ResultsError
from results.sections import Privacy, Protection

SCHEMA = 1

Status = Literal["ok", "diverged", "failed", "stopped"]


class Key(NamedTuple):
    """What names a run in a store."""

    run_id: str
    engine: str


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data set a run was made on. `title` and `notes` (caveats, a line each) are for captions."""

    name: str
    title: str
    form: str
    classes: tuple[str, ...]
    hash: str
    notes: tuple[str, ...] = ()


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """The model after a round (counted from 1); test figures are null in a tuning run."""

    round: int
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_macro_f1: float | None = None
    validation_accuracy: float | None = None
    train_loss: float | None = None


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """One office: what it held, how its validation rows fared, what it sent and was sent over the whole run.

    `entropy` is its label entropy in bits over log2(classes), `js_distance` the Jensen-Shannon distance of its labels
    to the pooled ones, both in [0, 1]; `rejected` counts its updates that were left out, `dropped` the rounds in which
    it vanished; `personal_accuracy` is that of the office's own model on its own validation rows.
    """

    name: str
    num_examples: int
    class_counts: tuple[int, ...]
    num_persons: int
    entropy: float | None = None
    js_distance: float | None = None
    validation_accuracy: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    rejected: int = 0
    dropped: int = 0
    personal_accuracy: float | None = None


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """The deal: hash of its rows and how uneven it is.

    `gini` of the sizes is at most (K - 1) / K, `gini_normalised` is K / (K - 1) times that; `entropy` and
    `js_distance` are means over offices weighted by examples; `information` is in bits. `moved` rows had to change
    office to reach the minimum size, which is the share `moved_share` of all; above 5 % the draw is `marked`.
    `label_skewed` is a property of the partition and not of the draw: whether a claim takes more seeds under it; older
    records do not say.
    """

    hash: str
    gini: float | None = None
    gini_normalised: float | None = None
    entropy: float | None = None
    js_distance: float | None = None
    information: float | None = None
    moved: int = 0
    moved_share: float = 0.0
    marked: bool = False
    label_skewed: bool | None = None


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run scored.

    `score` is the mean test accuracy of the last `min(5, rounds)` rounds, fixed before any run; the other test
    figures are those of the final model. Office accuracies are on validation rows: their plain mean, weighted by
    examples, and the worst; the personal ones are of the offices' own models, each on its office's validation rows.
    `test_correct_by_person` holds (correct, total) test rows by person.
    """

    score: float | None = None
    test_accuracy: float | None = None
    test_macro_f1: float | None = None
    test_f1_per_class: tuple[float | None, ...] | None = None
    test_correct_by_person: dict[str, tuple[int, int]] | None = None
    mean_office_accuracy: float | None = None
    weighted_office_accuracy: float | None = None
    worst_office_accuracy: float | None = None
    validation_score: float | None = None
    mean_personal_accuracy: float | None = None
    worst_personal_accuracy: float | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a run: seconds by phase, bytes over all offices, share of the weights encrypted, values clipped.

    Under protection encrypt_s is of all offices, add_s the server's, decrypt_s of one office, keygen_s once a run;
    critical_s is what real offices would wait for: each round's slowest encryption, the additions and one decryption.
    """

    train_s: float = 0.0
    aggregate_s: float = 0.0
    evaluate_s: float = 0.0
    encrypt_s: float = 0.0
    add_s: float = 0.0
    decrypt_s: float = 0.0
    keygen_s: float = 0.0
    critical_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    encrypted_share: float = 0.0
    clipped: int = 0
    crypto_processes: int = 0


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made with. Bits compare on the same versions and CPU path alone.

    `commit` ends in `+` where files differed from it; `sources_hash` is that of the code the run went through.
    """

    versions: dict[str, str] = msgspec.field(default_factory=dict)
    machine: str = ""
    cpu_path: str = ""
    commit: str | None = None
    sources_hash: str = ""
    data_hash: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run. A failed one has no rounds and no partition; a diverged one no `final`.

    Tuning leaves runs that are `stopped` after fewer rounds than their spec says; their figures are as of the last.

    Attributes:
        spec: every option by name; strategy, partition, model and optimizer in canonical notation.
        strategy_options: every field of the strategy with its value, defaults included (the canonical text leaves
            those out).
        error: why it failed or diverged.
        filtered: an update was left out, so the strategy did not see all it was sent.
        privacy: what was spent, where a run claims any.
        protection: how updates were kept from the server, and the rounding it cost.
    """

    schema: int = SCHEMA
    run_id: str
    engine: str
    status: Status = "ok"
    error: str | None = None
    filtered: bool = False
    spec: dict[str, Any]
    strategy_options: dict[str, Any] = msgspec.field(default_factory=dict)
    data: Data
    rounds: tuple[Round, ...] = ()
    offices: tuple[Office, ...] = ()
    partition: Partition | None = None
    final: Final | None = None
    cost: Cost = Cost()
    privacy: Privacy | None = None
    protection: Protection | None = None
    environment: Environment = Environment()

    @property
    def key(self) -> Key:
        """Its name in a store."""
        return Key(self.run_id, self.engine)


class _Score(msgspec.Struct, frozen=True, kw_only=True):
    score: float | None = None


class _Sources(msgspec.Struct, frozen=True, kw_only=True):
    sources_hash: str = ""
    commit: str | None = None


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """The few fields that listing and planning need; decoding skips the rest, which is several times as fast."""

    schema: int = SCHEMA
    run_id: str
    engine: str
    status: Status
    error: str | None = None
    spec: dict[str, Any]
    final: _Score | None = None
    environment: _Sources = _Sources()

    @property
    def key(self) -> Key:
        """Its name in a store."""
        return Key(self.run_id, self.engine)

    @property
    def score(self) -> float | None:
        """As in `Final`."""
        return None if self.final is None else self.final.score

    @property
    def sources_hash(self) -> str:
        """Hash of the code that made the run."""
        return self.environment.sources_hash


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    schema: int


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as Python's own; found by their method, so that NumPy need not be imported."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a record holds numbers, text, lists and dicts; found {type(value).__name__}")


Read = TypeVar("Read", RunRecord, Glance)

_ENCODER = msgspec.json.Encoder(enc_hook=_plain)  # writes numbers that are not finite as null
_VERSION = msgspec.json.Decoder(_Version)
_RECORD = msgspec.json.Decoder(RunRecord)
_GLANCE = msgspec.json.Decoder(Glance)


def encode(record: RunRecord) -> bytes:
    """A record as JSON, keys in the order of the schema, ending in a newline."""
    return _ENCODER.encode(record) + b"\n"


def decode(text: bytes, name: object = "record") -> RunRecord:
    """A record from JSON.

    Args:
        name: of the file, for the error.

    Raises:
        ResultsError: the text is not a whole record of this schema.
    """
    return _decoded(_RECORD, text, name)


def glance(text: bytes, name: object = "record") -> Glance:
    """As `decode`, the few fields of `Glance` alone."""
    return _decoded(_GLANCE, text, name)


def decode_fields(fields: dict[str, Any]) -> RunRecord:
    """A record from its keys and values (NumPy's numbers and arrays may stand for Python's), exactly as it would be
    read back.

    Raises:
        ResultsError: a key is missing or a value has the wrong type.
    """
    text = _ENCODER.encode({"schema": SCHEMA} | fields)
    return _decoded(_RECORD, text, f"run {fields.get('run_id')}", cure="give the field a value of that type")


def _decoded(
    decoder: msgspec.json.Decoder[Read],
    text: bytes,
    name: object,
    cure: str = "remove the file and the run is made again",
) -> Read:
    try:
        found = decoder.decode(text)
    except msgspec.DecodeError as error:
        # A foreign version may fail on any key: say so rather than name the key.
        _check_version(_version(text), name)
        raise ResultsError(f"{name}: not a whole run record ({error}); {cure}") from None
    _check_version(found.schema, name)
    return found


def _version(text: bytes) -> int:
    try:
        return _VERSION.decode(text).schema
    except msgspec.DecodeError:
        return SCHEMA


def _check_version(version: int, name: object) -> None:
    if version != SCHEMA:
        age = "newer" if version > SCHEMA else "older"
        raise ResultsError(
            f"{name}: record of schema version {version}, expected {SCHEMA}: written by {age} code; "
            f"read it with that code, or move the file away and the run is made again"
        )
