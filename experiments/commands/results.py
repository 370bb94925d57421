"""`results`: look into the store. Nothing of `experiments` is needed for it."""

from __future__ import annotations

import argparse

from results.reporting import listing
from results.store import Store


def main(options: argparse.Namespace) -> int:
    """List, show, remove or merge stored runs."""
    store = Store(options.results)
    if options.action == "ls":
        print(listing.ls(store))
    elif options.action == "show":
        for record in store.find(options.run_id):
            print(listing.show(record))
    elif options.action == "rm":
        for record in [record for run_id in options.run_id for record in store.find(run_id)]:
            store.rm(record.run_id, record.engine)
    else:
        print(listing.merged(store.merge(Store(options.other))))
    return 0
