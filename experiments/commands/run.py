"""`run`: one run, from the store if it is there."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from experiments.commands import say
from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.engines import engine as check_engine
from experiments.federation.describe import describe
from experiments.federation.keys import keys_of_run
from experiments.federation.run import attempt, save, sources
from experiments.sweep.plan import check, data_key, load_data
from results.record import Key, encode
from results.store import Store

EXIT_STATUS = {"ok": 0, "failed": 1, "diverged": 3}  # as a sweep of this one run


def main(options: argparse.Namespace) -> int:
    """Make one run, or read it; print what came out."""
    check_engine(options.engine)
    names = [field.name for field in dataclasses.fields(RunSpec)]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    loaded = load_data([RunSpec.from_options(given)], options.data, may_fall_back="dataset" not in given)
    say(loaded.message)
    spec, data = loaded.specs[0], loaded.data[data_key(loaded.specs[0])]
    store = Store(options.results)
    record = None
    anew = options.no_store or options.save_model
    if not anew and store.status(Key(spec.run_id, options.engine)) in ("ok", "diverged"):
        record = store.get(spec.run_id, options.engine)
        other = record.environment.sources_hash != sources(spec, options.engine)
        by = ", made by other code" if other else ""
        say(f"run {spec.run_id} is in {options.results} already{by}; --no-store runs it again")
    if record is None:
        if not options.no_store:
            store.check_writable()
        check(loaded, engine=options.engine)
        if options.save_model:
            check_writable(options.save_model)
            if spec.strategy.protected and options.engine != "inprocess":
                raise UserError(
                    "--save-model: under protection the model stays in the simulated offices' processes; "
                    "--engine inprocess can save it"
                )
        with keys_of_run(spec, options.crypto_processes) as keys:
            record, models = attempt(spec, data, options.engine, keys=keys)
        if not options.no_store:
            store.put(record)
        if options.save_model and models is not None:
            save(options.save_model, spec, data, models)
    if options.json:
        print(encode(record).decode(), end="")
    else:
        print(describe(record))
    if record.error:
        say(f"{record.status}: {record.error}")
    return EXIT_STATUS[record.status]


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before anything is trained.

    Raises:
        UserError: its folder cannot be made or written, or it is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise UserError(f"--save-model {path}: cannot be written ({error.strerror}); name a file elsewhere") from None
