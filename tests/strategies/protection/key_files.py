"""The protected strategies, and keys for their tests.

`PROTECTED` is read from the folder: a protocol added as one file is in every test over it. One whose keys take long to
make names, in `TEST_KEYS`, those that are committed for tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.config.notation import registry_name
from experiments.config.spec import STRATEGIES
from strategies import StrategyError
from strategies.paillier import KEY
from strategies.protection.base import Protected
from strategies.protection.vault import Vault, make_vault
from strategies.quantised import Quantised
from tests.strategies.crypto.committed_test_primes import committed_key

PROTECTED: dict[str, type[Protected]] = {name: cls for name, cls in STRATEGIES.items() if cls.protected}
PROTOCOLS = [name for name, cls in PROTECTED.items() if cls is not Quantised]  # those that hide anything
OPTIONS = [field.name for field in dataclasses.fields(Protected)]  # which all of them have

# Short keys: what is tested here does not depend on their length. `test_paillier_maths` has long ones.
TEST_KEYS: dict[str, Callable[[], Mapping[str, str]]] = {"paillier": lambda: {KEY: committed_key("safe-512").jwk()}}


def vault_for(strategy: Protected, offices: int = 4) -> Vault:
    """A fresh run id and secret, and keys that only tests may use."""
    name = registry_name(type(strategy))
    keys = TEST_KEYS[name]() if name in TEST_KEYS else strategy.make_keys(offices)
    return make_vault(keys, test_only=True)


def made(protocol: str, **options: Any) -> Protected | None:
    """A protocol with these options; None where it cannot do so many bits, which it then has to say."""
    try:
        return PROTECTED[protocol](**options)
    except StrategyError as error:
        if "bits" in options and "bits" in str(error):
            return None
        raise


def twin_of(strategy: Protected) -> Quantised:
    """The same integers in clear."""
    return Quantised(**{name: getattr(strategy, name) for name in OPTIONS})
