"""The keys that offices share and the server must not have: made once a run, kept in one file of mode 0600.

    run      id of the run, in every message
    secret   32 bytes of the offices: tags, masks, sealed models
    keys     what the protocol needs besides, as text (Paillier: a JSON Web Key as phe's command line writes it)

It is JSON, never a pickle. A vault serves one run and is destroyed with it: kept, one office's lost key would open the
past. In a deployment the offices make it in a ceremony of their own; in a simulation the driver does.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from strategies.crypto.streams import KEY_BYTES, ProtectionError, derive, random_key


@dataclass(frozen=True)
class Vault:
    """See the module. Two vaults with the same bytes are the same.

    Attributes:
        test_only: it may hold keys that are too small or known to everybody; only tests say so.
    """

    run: str
    secret: bytes = field(repr=False)
    keys: Mapping[str, str] = field(repr=False, default_factory=dict, hash=False)
    test_only: bool = False

    @cached_property
    def key_id(self) -> str:
        """Names secret and keys without telling them."""
        return derive(self.secret, self.run, "key id", *sorted(self.keys.values()), length=8).hex()

    def text(self) -> str:
        """As JSON."""
        secret = base64.b64encode(self.secret).decode()
        return json.dumps({"run": self.run, "secret": secret, "keys": dict(self.keys), "test_only": self.test_only})

    @classmethod
    def parse(cls, text: str) -> Vault:
        """From JSON.

        Raises:
            ProtectionError: it is not a vault.
        """
        try:
            found = json.loads(text)
            return cls(found["run"], base64.b64decode(found["secret"]), found["keys"], bool(found["test_only"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ProtectionError(f"not a vault of keys ({type(error).__name__}); make the keys anew") from None

    def save(self, path: Path) -> None:
        """Write a file that only its owner may read, from its first byte on.

        Raises:
            ProtectionError: it exists.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ProtectionError(f"{path} exists; keys are never overwritten: name another file") from None
        with os.fdopen(descriptor, "w") as file:
            file.write(self.text())

    @classmethod
    def load(cls, path: Path) -> Vault:
        """Read a file of `save`.

        Raises:
            ProtectionError: others may read it, or it is not a vault.
        """
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ProtectionError(f"{path} can be read by others; keys want mode 0600: chmod 600, and make new keys")
        return cls.parse(path.read_text())


# Where nothing is computed in earnest there is no secret either. All processes and parts of a run have this one.
IN_CLEAR = Vault("in clear", bytes(KEY_BYTES))


def make_vault(keys: Mapping[str, str], test_only: bool = False) -> Vault:
    """A vault with a fresh run id and secret."""
    return Vault(sha256(random_key()).hexdigest()[:16], random_key(), keys, test_only)
