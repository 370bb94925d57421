"""What tuning searches and how it chooses: the space, the next batch of trials, and halving. No training here.

Everything is a function of what finished before. A batch is proposed by a sampler made anew from (study seed, batch)
that has seen all earlier batches and nothing of its own, so that a study that was killed, or had other workers, asks
for the same trials; Optuna keeps no generator in its storage.

    batches 0 and 1    the default and 19 trials at random, all trained to the end
    from batch 2 on    tree-structured Parzen estimators (Bergstra et al. 2011); ten trials to round 3, the best four
                       of them to round 8, the best two of those to the end: synchronous halving (Jamieson and
                       Talwalkar 2016), so that nothing depends on who reported first
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from experiments.config.errors import UserError
from experiments.config.notation import canonical
from experiments.config.spec import RunSpec
from experiments.tuning.winners import SHARED, own_of
from strategies import Strategy

BATCH = 10  # trials proposed at a time, and the field of a halving
RANDOM_BATCHES = 2
KEPT = ((3, 4), (8, 2))  # of a batch: after so many rounds, so many go on
OWN = 2  # parameters a strategy may add to the shared ones

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # multivariate TPE


@dataclass(frozen=True)
class Space:
    """What is searched for one strategy around a default.

    Attributes:
        distributions: of every parameter, the default inside.
        default: of every parameter.
        own: names of the strategy's own.
    """

    distributions: dict[str, BaseDistribution]
    default: dict[str, Any]
    own: tuple[str, ...]


def space_of(spec: RunSpec, fixed: Sequence[str] = ()) -> Space:
    """The shared space and the strategy's own, with the spec's values as the default.

    Args:
        fixed: names that stay at their default.

    Raises:
        UserError: the spec sets what tuning chooses, in a way that tuning cannot; or the strategy asks for too much.
    """
    if spec.local_steps is not None:
        raise UserError("tuning chooses local_epochs; found local_steps in the grid: take it out")
    own = own_of(spec.strategy)
    if len(own) > OWN:
        raise UserError(f"{canonical(spec.strategy)} wants {len(own)} parameters tuned; at most {OWN} are fair")
    default = {
        **{name: getattr(spec, name) for name in ("client_lr", "lr_schedule", "batch_size", "local_epochs")},
        **{name: getattr(spec.optimizer, name) for name in ("momentum", "weight_decay")},
        **{name: getattr(spec.strategy, name) for name in own},
    }
    wanted = {**SHARED, **spec.strategy.search_space(), **{name: [default[name]] for name in fixed}}
    return Space({name: _distribution(wanted[name], default[name]) for name in wanted}, default, own)


def _distribution(wanted: Any, default: Any) -> BaseDistribution:
    """A log-uniform range (low, high) or a list of choices, stretched to hold the default."""
    if isinstance(wanted, tuple):
        low, high = wanted
        return FloatDistribution(min(low, default), max(high, default), log=True)
    return CategoricalDistribution(wanted if default in wanted else [default, *wanted])


def options_of(strategy: Strategy, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as options of a run: `momentum` and `weight_decay` are the optimizer's, a strategy's own are in it."""
    given = dict(params)
    optimizer = f"sgd(momentum={given.pop('momentum')!r}, weight_decay={given.pop('weight_decay')!r})"
    own = {name: given.pop(name) for name in own_of(strategy)}
    tuned: Any = dataclasses.replace(strategy, **own)  # type: ignore[type-var]
    return {"strategy": canonical(tuned), "optimizer": optimizer, **given}


def seed_of(study_seed: int, batch: int) -> int:
    """Of a batch's sampler."""
    return int.from_bytes(hashlib.sha256(f"{study_seed} {batch}".encode()).digest()[:4], "big")


def propose(space: Space, finished: Sequence[FrozenTrial], seed: int, batch: int) -> list[dict[str, Any]]:
    """The trials of a batch, given all trials of earlier ones; the default is the first of all."""
    sampler: BaseSampler
    if batch < RANDOM_BATCHES:
        sampler = RandomSampler(seed=seed_of(seed, batch))
    else:
        sampler = TPESampler(multivariate=True, seed=seed_of(seed, batch))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(finished)
    first = [space.default] if batch == 0 else []
    return [*first, *(study.ask(space.distributions).params for _ in range(BATCH - len(first)))]


def trial_of(
    space: Space, params: Mapping[str, Any], values: Mapping[int, float], rounds: int, batch: int, place: int
) -> FrozenTrial:
    """A finished trial as Optuna keeps it: complete if it was trained for all `rounds`, else pruned.

    Args:
        values: at each rung that it reached, by round.
    """
    last = max(values)
    return create_trial(
        state=TrialState.COMPLETE if last == rounds else TrialState.PRUNED,
        value=values[last],
        params=dict(params),
        distributions=space.distributions,
        intermediate_values=dict(values),
        user_attrs={"batch": batch, "place": place},
    )


def rungs(rounds: int) -> list[tuple[int, int]]:
    """Rounds after which a batch is cut, with how many go on; those beyond the end of training are left out."""
    return [(after, kept) for after, kept in KEPT if after < rounds]


def best(values: Sequence[float], kept: int) -> list[int]:
    """Places of the highest values, in ascending order; of equals the first."""
    return sorted(sorted(range(len(values)), key=lambda place: (-values[place], place))[:kept])


def survivors(values: Sequence[Mapping[int, float]], rounds: int) -> list[int]:
    """Who of a batch would be trained to the end, given everybody's value at every rung."""
    places = list(range(len(values)))
    for after, kept in rungs(rounds):
        places = [places[place] for place in best([values[place][after] for place in places], kept)]
    return places


def pruned_by_halving(values: Sequence[Mapping[int, float]], rounds: int, draws: int = 1000, seed: int = 0) -> float:
    """How often halving would have stopped the best trial of a study in which everybody was trained to the end.

    The study's trials are dealt into batches at random, `draws` times: whom the best meets in its batch is chance.

    Returns:
        share of the draws, in [0, 1].
    """
    import numpy as np

    winner = int(np.argmax([value[rounds] for value in values]))
    others = [place for place in range(len(values)) if place != winner]
    rng = np.random.default_rng(seed)
    lost = 0
    for _ in range(draws):
        batch = [winner, *rng.choice(others, min(BATCH - 1, len(others)), replace=False)]
        lost += 0 not in survivors([values[place] for place in batch], rounds)
    return lost / draws


def importance(finished: Sequence[FrozenTrial], default: Mapping[str, Any]) -> dict[str, float]:
    """Share of the variance of complete trials' values that each parameter explains (fANOVA, Hutter et al. 2014).

    Returns:
        by name, summing to 1; empty where few or equal values explain nothing.
    """
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    shares = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return {name: float(shares.get(name, 0.0)) for name in default}


def storage_of(url: str) -> Any:
    """Optuna's storage: a journal file (`journal:PATH`) or any URL that Optuna takes.

    Raises:
        UserError: it cannot be opened.
    """
    from optuna.storages import JournalStorage, get_storage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    kind, _, path = url.partition(":")
    try:
        if kind == "journal":
            lock = JournalFileOpenLock(path)
            _mend(Path(path), lock)
            return JournalStorage(JournalFileBackend(path, lock_obj=lock))
        if url in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
            raise ValueError("a study in memory would be lost with this process")
        return get_storage(url)
    except Exception as error:  # SQLAlchemy's, a driver's, the system's
        shown = re.sub(r"(://[^:/@]*:)[^/@]*@", r"\1***@", url)  # no log should have a password
        raise UserError(
            f"--storage {shown}: cannot be opened ({reason(error)}); expected journal:FILE, "
            "sqlite:///FILE or a database URL such as postgresql+psycopg://user@host/name"
        ) from None


def _mend(journal: Path, lock: Any) -> None:
    """Cut off a last line that a loss of power or a full disk left unfinished: what is appended to it is lost too."""
    if not journal.exists():
        return
    lock.acquire()  # another driver may be writing
    try:
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def reason(error: Exception) -> str:
    """What a storage complains of, in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
