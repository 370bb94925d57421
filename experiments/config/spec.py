"""What is run: `RunSpec`, one run; its options; and the hash that names it.

A `RunSpec` holds every number that can change a result, and nothing else (not the engine, not the number of workers).
Each field is an option of `run`, a key of a grid file and a column of the result table, under one name. The canonical
JSON leaves out fields at their default, so that an option added later leaves old hashes alone; a default therefore
never changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from experiments.config.errors import UserError
from experiments.config.notation import build, canonical, nearest, parse, terms
from experiments.config.registry import Folder
from experiments.data import SOURCES
from experiments.data.corruption import Corruption
from experiments.data.dataset import Source
from experiments.federation.dropout import DROPOUTS, Drop
from experiments.training.losses.base import Loss
from experiments.training.models import MODELS
from experiments.training.optimizers import OPTIMIZERS
from partitions import Fold, Partition
from results.rules import LOSS, rule
from strategies import Strategy

STRATEGIES = Folder("strategies", Strategy)
PARTITIONS = Folder("partitions", Partition)
LOSSES = Folder("experiments.training.losses", Loss)
CORRUPTIONS = Folder("experiments.data.corruption", Corruption)
FOLDS = {"fold": Fold}
DEFAULT_CLIENTS = 4  # the pilot's offices

Parser = Callable[[str, Any], Any]


def _whole(low: int, otherwise: str = "") -> Parser:
    def parser(name: str, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            raise UserError(f"{name} must be a whole number{otherwise}; found {value!r}") from None
        if number < low:
            raise UserError(f"{name} must be at least {low}; found {number}")
        return number

    return parser


def _number(low: float, high: float, open_low: bool = False) -> Parser:
    def parser(name: str, value: Any) -> float:
        try:
            number = float(str(value))
        except ValueError:
            raise UserError(f"{name} must be a number; found {value!r}") from None
        if not low <= number <= high or (open_low and number == low):
            left = "(" if open_low else "["
            raise UserError(f"{name} must be in {left}{low:g}, {high:g}]; found {number!r}")
        return number

    return parser


def _one_of(*choices: str) -> Parser:
    def parser(name: str, value: Any) -> str:
        if str(value) not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}; found {value!r}{_near(str(value), choices)}")
        return str(value)

    return parser


def _near(word: str, choices: tuple[str, ...]) -> str:
    hint = nearest(word, choices)
    return hint if "did you mean" in hint else ""


def _optional(parser: Parser) -> Parser:
    return lambda name, value: None if value is None or str(value) in ("none", "null") else parser(name, value)


def _truth(name: str, value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise UserError(f"{name} must be true or false; found {value!r}")
    return str(value).lower() == "true"


def _built(registry: Mapping[str, type], kind: str) -> Parser:
    @cache  # a grid of thousands of runs names the same few strategies again and again
    def made(text: str) -> Any:
        return build(parse(text), registry, kind)

    return lambda name, value: made(str(value))


_PARTITION = _built(PARTITIONS, "partition")


def _batch_size(name: str, value: Any) -> int | str:
    return "full" if value == "full" else _whole(1, " or full")(name, value)


def _test_persons(name: str, value: Any) -> Any:
    if value == "official":
        return value
    if parse(value).name != "fold":
        raise UserError(f"test_persons must be official or fold(i, of=6); found {value!r}")
    return build(parse(value), FOLDS, "choice of test persons")


def _validation(name: str, value: Any) -> Any:
    text = str(value)
    if text.startswith("fold"):
        return build(parse(text), FOLDS, "choice of validation persons")
    try:
        share = _number(0, 1)(name, value)
    except UserError as error:
        raise UserError(f"{error} (or fold(i, of=5))") from None
    if share == 1:
        raise UserError("validation must be below 1, or nobody is left to train; found 1")
    return share


def label_skewed(partition: str) -> bool:
    """Whether a partition is label-skewed, by its notation; True of one that is not here any more, to be careful."""
    try:
        made: Partition = _PARTITION("partition", partition)
    except UserError:
        return True
    return made.label_skewed


def option(default: str | int | float | bool | None, parser: Parser, help_: str) -> Any:
    """A field of the spec: its default as a user would write it, its parser, one line of help."""
    return dataclasses.field(default=default, metadata={"parser": parser, "help": help_, "default": default})


@dataclass(frozen=True)
class RunSpec:
    """One run. Make it with `from_options`; fields hold built objects (a strategy, a partition, ...)."""

    dataset: Source = option("uci-har", _built(SOURCES, "data set"), "uci-har, watch or table(...)")
    form: str = option("features", _one_of("features", "extracted", "raw"), "features, extracted or raw windows")
    test_persons: Any = option("official", _test_persons, "official, or fold(i, of=6)")
    partition: Partition = option("iid", _PARTITION, "who holds which rows")
    partition_seed: int | None = option(
        None, _optional(_whole(0)), "seed of partition, validation persons and corruption, if not --seed"
    )
    strategy: Strategy = option("fedavg", _built(STRATEGIES, "strategy"), "how updates are combined (+ a loss)")
    clients: int = option(DEFAULT_CLIENTS, _whole(1), "number of offices")
    fraction: float = option(1.0, _number(0, 1, open_low=True), "share of the offices that trains in a round")
    rounds: int = option(25, _whole(1), "rounds of training")
    local_epochs: int = option(1, _whole(1), "epochs an office trains in a round")
    local_steps: int | None = option(None, _optional(_whole(1)), "minibatch steps in a round, instead of epochs")
    batch_size: int | str = option(32, _batch_size, "rows of a minibatch, or full")
    client_lr: float = option(0.05, _number(0, 1e6, open_low=True), "learning rate of the offices")
    lr_schedule: str = option(
        "constant", _one_of("constant", "linear", "cosine"), "learning rate over rounds: constant, linear or cosine"
    )
    optimizer: Any = option("sgd", _built(OPTIMIZERS, "optimizer"), "sgd(momentum=0, weight_decay=0)")
    loss: Any = option(
        LOSS, _built(LOSSES, "loss"), "what local training minimises: cross_entropy, logit_adjusted(tau=1)"
    )
    model: Any = option("mlp", _built(MODELS, "model"), "mlp(hidden=[128, 64]) or cnn1d(channels=[32, 64])")
    validation: Any = option(0.2, _validation, "validation persons: 0, a share, or fold(i, of=5)")
    standardise: str = option(
        "auto", _one_of("auto", "none", "pooled"), "auto, none, or pooled (by statistics of all training rows)"
    )
    min_examples: int = option(64, _whole(1), "training rows every office has at least")
    row_order: str = option(
        "shuffled", _one_of("shuffled", "file", "label"), "an office's rows in an epoch: shuffled, file or label"
    )
    dropout: Drop | None = option(
        None,
        _optional(_built(DROPOUTS, "dropout")),
        "offices that vanish in a round, e.g. drop(rate=0.1, phase=update)",
    )
    corrupt: Corruption | None = option(
        None,
        _optional(_built(CORRUPTIONS, "corruption")),
        "one office's rows are spoilt, e.g. label_noise(office=CBS, rate=0.4)",
    )
    reject_nonfinite: bool = option(True, _truth, "leave out updates that are not finite or absurdly long")
    trainer: str = option(
        "auto", _one_of("auto", "reference"), "local training: auto (compiled where it can be) or reference"
    )
    audit: bool = option(False, _truth, "leave units out by coins, then guess from the final model which were in")
    seed: int = option(0, _whole(0), "varies partition, validation persons, first weights and order")
    data_hash: str = option("", lambda name, value: str(value), "content of the data (set when it is loaded)")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> RunSpec:
        """A spec from options as written on a command line or in a grid file.

        Raises:
            UserError: an unknown option, or a value out of its range.
        """
        given = _split_rule({key.replace("-", "_"): value for key, value in options.items()})
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if given.get("local_steps") is not None and "local_epochs" in given and given["local_epochs"] != 1:
            raise UserError("local_steps and local_epochs both say how long an office trains; set one of them")
        for key in given:
            if key not in fields:
                raise UserError(f"unknown option {key!r}{nearest(key, fields)}")
        values = {
            name: field.metadata["parser"](name, given.get(name, field.metadata["default"]))
            for name, field in fields.items()
        }
        if "clients" not in given and type(values["partition"]).prescribed_clients is not Partition.prescribed_clients:
            values["clients"] = 0  # `resolved` asks the partition
        return cls(**values)

    @cached_property
    def _options(self) -> dict[str, Any]:
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def options(self) -> dict[str, Any]:
        """Every option as text or number, as `from_options` reads it and as records and tables show it."""
        return dict(self._options)

    @property
    def rule(self) -> str:
        """Strategy and loss as one text, as a rule is written."""
        return rule(self._options["strategy"], self._options["loss"])

    def canonical_json(self) -> str:
        """Sorted keys, no spaces, floats by `repr`, fields at their default left out."""
        defaults = _defaults()
        changed = {key: value for key, value in self.options().items() if value != defaults[key]}
        return json.dumps(changed, sort_keys=True, separators=(",", ":"))

    @cached_property
    def run_id(self) -> str:
        """The run's name: a hash of its canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def cohort(self, clients: int) -> int:
        """How many of the clients train in a round."""
        return max(1, round(self.fraction * clients))

    @property
    def split_seed(self) -> int:
        """Seed of the partition, the validation persons and what is spoilt: of which rows there are where."""
        return self.seed if self.partition_seed is None else self.partition_seed


def _split_rule(given: dict[str, Any]) -> dict[str, Any]:
    """Options in which a rule, `strategy: fedavg + logit_adjusted(tau=1)`, is split into strategy and loss.

    Raises:
        UserError: it is no strategy with one loss, or another loss is given besides.
    """
    text = str(given.get("strategy", ""))
    strategy, *losses = terms(text)
    if not losses:
        return given
    if len(losses) > 1 or not (strategy and losses[0]):
        named = len([term for term in losses if term])
        raise UserError(
            f"found {named} losses in the rule {text!r}; expected a strategy and one loss, as in fedavg + {LOSS}"
        )
    try:
        loss = build(parse(losses[0]), LOSSES, "loss")
    except UserError as error:
        raise UserError(f"{error}, in the rule {text!r}") from None
    if given.get("loss") is not None and build(parse(str(given["loss"])), LOSSES, "loss") != loss:
        raise UserError(
            f"the rule {text!r} and the option loss={given['loss']} name two losses; expected one: leave the option out"
        )
    return {**given, "strategy": strategy, "loss": canonical(loss)}


def _plain(value: Any) -> Any:
    return _canonical(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


@cache
def _canonical(instance: Any) -> str:
    return canonical(instance)


@cache
def _defaults() -> dict[str, Any]:
    return RunSpec.from_options({}).options()
