"""Who learns what: each protocol's own line of the table, held against all that its server sends, gets and holds.

Offices' updates are planted, and their bytes are looked for as floats and as scaled integers, in words, on the wire and
packed. `quantised`, which protects nothing, shows that the search finds what is there.
"""

from __future__ import annotations

import base64
import logging
import os
import pickle
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import Message

from experiments.__main__ import main
from experiments.engines import flower
from experiments.engines.flower import decode
from experiments.federation import keys as keys_of
from experiments.federation.run import deal_rows, run, set_up
from strategies.crypto.fixed_point import FixedPoint
from strategies.crypto.streams import ProtectionError
from strategies.protection.base import Protected
from strategies.protection.sees import SERVER
from strategies.protection.vault import Vault, make_vault
from tests.experiments.commands.test_cli import table  # noqa: F401  a fixture
from tests.strategies.crypto.committed_test_primes import committed_key
from tests.strategies.protection.key_files import PROTECTED, PROTOCOLS, vault_for
from tests.strategies.protection.secrets_sought import WINDOW, Needles, hay_of_message, haystack, memory_of, reachable
from tests.strategies.protection.server_process import serve
from tests.strategies.protection.stages import Letter, Written, between, case, keys_for, stage

ROUNDS, CLIP = 3, 0.5
KINDS = {"updates", "sums", "model"}


def told(strategy: Protected) -> set[str]:
    """What the table says that the server learns: of updates, sums and model."""
    sees = strategy.sees[SERVER]
    return {kind for kind in ("updates", "sums") if getattr(sees, kind)}


class Planting:
    """Offices whose updates are known: recognisable bits in every weight, and what the sums and models are of them."""

    def __init__(self, bits: int) -> None:
        self.needles, self.grid = Needles(), FixedPoint(bits, 4)
        self.sums: dict[int, Any] = {}

    def __call__(self, office: int, round_: int, update: Any) -> Any:
        """The trained model of an office: the received one and a vector of noise, whose place says whose it is."""
        planted = np.random.default_rng((office, round_)).uniform(-0.4, 0.4, update.w.size).astype(np.float32)
        model, bits = update.job.w, self.grid.bits
        trained = (model + planted).astype(np.float32)
        way = trained.astype(np.float64) - model
        values, _, _ = self.grid.encode(way, 0.25, CLIP)
        self.needles.plant_floats("updates", way)
        self.needles.plant_floats("updates", trained)
        self.needles.plant_integers("updates", values, bits)
        self.needles.plant_integers("updates", np.abs(values.astype(int) - self.grid.offset(0.25)), bits)
        self.needles.plant_floats("model", model)
        total = self.sums[round_] = self.sums.get(round_, 0) + values.astype(np.int64)
        if office == 3:
            mean = self.grid.decode(total.astype(np.uint32), [0.25] * 4, CLIP)
            self.needles.plant_floats("sums", mean)
            self.needles.plant_integers("sums", total, bits)
            self.needles.plant_floats("model", (model + mean).astype(np.float32))
        return trained


def planted(protocol: str, bits: int) -> tuple[Protected, Planting]:
    from strategies.fedavg import FedAvg

    strategy = PROTECTED[protocol](bits=bits, rounding="nearest", clip=CLIP, inner=FedAvg(weighting="uniform"))
    return strategy, Planting(bits)


@pytest.mark.parametrize("protocol", PROTECTED)
@pytest.mark.parametrize("bits", [12, 16])
def test_the_server_finds_what_the_table_says_and_nothing_else(protocol: str, bits: int) -> None:
    """In every message both ways, and in everything that its strategy and its Grid hold in the midst of each round."""
    strategy, planting = planted(protocol, bits)
    transcript: list[bytes] = []
    held: list[bytes] = []

    def look(letter: Letter) -> None:
        transcript.append(hay_of_message(letter.content))
        if letter.down and letter.kind == "evaluate":
            held.append(haystack(reachable(play.server, play.grid, stop=[play.inner])))

    play = stage(strategy, look=look, train=planting)
    add = play.server.adder if hasattr(play.server, "adder") else None
    assert add is None, "the server has nothing before the offices join"
    play.play(ROUNDS)
    assert len(held) == ROUNDS
    assert len(transcript) > 6 * ROUNDS
    seen = {"transcript": planting.needles.found(b"".join(transcript)), "held": planting.needles.found(b"".join(held))}
    expected = told(strategy)
    assert seen["transcript"] | seen["held"] == expected, seen
    assert (seen["held"] >= {"sums"}) == ("sums" in expected)
    assert seen["transcript"] == expected
    memories = haystack(reachable(play.memories))
    assert planting.needles.found(memories) >= {"model"}, "it lives with the offices"


@pytest.mark.parametrize("protocol", PROTECTED)
def test_while_it_adds_the_server_holds_no_more(protocol: str) -> None:
    strategy, planting = planted(protocol, 16)
    held: list[bytes] = []
    play = stage(strategy, train=planting)
    adder_of = play.server._adder_of

    def looking(number: int) -> Any:
        adder = adder_of(number)

        class Watched:
            """The adder, looked at whenever it has added."""

            def __getattr__(self, name: str) -> Any:
                return getattr(adder, name)

            def add(self, total: Any, payload: Any) -> Any:
                total = adder.add(total, payload)
                everything = reachable(play.server, play.grid, total, payload, stop=[play, play.inner, held])
                held.append(haystack(everything))
                return total

        return Watched()

    play.server._adder_of = looking  # type: ignore[method-assign]
    play.play(ROUNDS)
    assert len(held) == 4 * ROUNDS
    assert planting.needles.found(b"".join(held)) == told(strategy)


def test_the_search_finds_what_is_hidden_in_objects() -> None:
    """Attributes, items, closures, parts of arrays, numbers in lists, and long integers."""
    planting = Planting(16)
    vector = np.random.default_rng(1).uniform(-1, 1, 90)
    planting.needles.plant_floats("updates", vector)
    values = np.random.default_rng(2).integers(0, 2**16, 90)
    planting.needles.plant_integers("sums", values, 16)

    class Holder:
        def __init__(self, thing: Any) -> None:
            self.thing = thing

    def closing(thing: Any) -> Any:
        return lambda: thing

    packed = int.from_bytes(b"\1" * 8 + values.astype("<u2").tobytes(), "little")
    for hidden, kind in [
        ({"a": [Holder(vector)]}, "updates"),
        (closing(vector.astype(np.float32)), "updates"),
        (Holder(vector.tolist()), "updates"),
        (vector[60:80], "updates"),  # a view: the whole is its base
        ({vector.tobytes()}, "updates"),
        (memoryview(vector.tobytes())[:3], "updates"),
        (Holder(closing(values.tolist())), "sums"),
        ([packed], "sums"),
        (values.astype(np.uint16), "sums"),
        (np.array([values, None], object), "sums"),
    ]:
        assert planting.needles.found(haystack(reachable(hidden))) == {kind}, hidden
        assert planting.needles.found(haystack(reachable(hidden, stop=[hidden]))) == set()
    assert planting.needles.found(haystack(reachable(Holder(np.zeros(90)), closing(3), [2**4000]))) == set()


@pytest.mark.parametrize(
    "protocol",
    [pytest.param(p, marks=[] if p in ("quantised", "masked_sum") else pytest.mark.slow) for p in PROTECTED],
)
def test_a_server_in_a_process_of_its_own_has_nothing_more_in_its_memory(protocol: str) -> None:
    """It is given the server's side alone; all of its memory is read while it waits for a round's evaluation."""
    strategy, planting = planted(protocol, 16)
    spec, data = case(strategy)
    flower.quiet()
    flower.identify()
    sides = set_up(spec, data, deal_rows(spec, data), keys=keys_for(spec))
    server, client_side = sides.server, sides.clients
    vault = sides.prepared.protection.keys.vault
    assert isinstance(vault, Vault)
    secrets_of(vault, planting.needles)
    clients, memories = client_side.start(), {}  # type: ignore[var-annotated]
    clients.trainer = Written(clients.trainer, planting)  # type: ignore[assignment]
    found: list[set[str]] = []
    size = 0

    def answer(process: int, messages: list[Message]) -> Sequence[Message]:
        nonlocal size
        for message in messages:
            decode(message.content)
        offices = [message.metadata.dst_node_id - 1 for message in messages]
        if messages[0].metadata.message_type == "evaluate":
            found.append(set())
            for piece in memory_of(process) if len(found) == ROUNDS else ():
                found[-1] |= planting.needles.found(piece)
                size += len(piece)
        return clients.answer(messages, offices, memories)

    rounds = serve(pickle.dumps(server), 4, answer)
    assert size > 2e7, "a process has more"
    assert found[-1] == told(strategy)
    with between(train=Planting(16)):
        assert tuple(row["test_loss"] for row in rounds) == tuple(
            row.test_loss for row in run(spec, data, keys=keys_for(spec)).rounds
        )


# --- Keys


def secrets_of(vault: Vault, needles: Needles | None = None) -> Needles:
    """All that must not leave the offices: the vault's secret and keys as they are written, and the primes in them."""
    needles, key = needles or Needles(), committed_key("safe-512")
    public = "".join([*(text for name, text in vault.keys.items() if name.endswith("public")), key.public.jwk()])
    written = [base64.b64encode(vault.secret).decode(), *(text for text in vault.keys.values() if text not in public)]
    for text in written:
        for start in range(0, len(text), WINDOW):
            if (part := text[start : start + WINDOW]) not in public:
                needles.add("keys", part.encode())
    numbers = [vault.secret]
    if "paillier" in vault.keys:
        numbers += [int(prime).to_bytes(32, "little") for prime in (key.p, key.q)]
    for number in numbers:
        for content in (number, number[::-1]):
            needles.add("keys", content)
            needles.add("keys", content.hex().encode())
        needles.add("keys", str(int.from_bytes(number, "little")).encode())
    return needles


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keys_stay_with_the_offices(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = PROTECTED[protocol]()
    hay: list[bytes] = []

    def look(letter: Letter) -> None:
        hay.append(hay_of_message(letter.content))
        if letter.down and letter.kind == "evaluate":
            hay.append(haystack(reachable(play.server, play.grid, stop=[play.inner])))

    with caplog.at_level(logging.DEBUG):
        play = stage(strategy, look=look, dropout="drop(schedule=[[2, 1, update]])", rounds=4)
        play.play(4)
    needles = secrets_of(play.desk.vault)
    assert needles.found(haystack(reachable(play.desk))) == {"keys"}, "or the search could not fail"
    assert needles.found(b"".join(hay)) == set()
    assert needles.found(caplog.text.encode()) == set()
    assert needles.found(repr((play.desk.vault, play.server, play.grid)).encode()) == set()


def test_private_keys_of_secagg_stay_in_their_offices_memory() -> None:
    needles, hay = Needles(), []
    kept: list[str] = []

    def look(letter: Letter) -> None:
        memory = play.memories.get(letter.office, {})
        if not letter.down and letter.kind == "query" and "advert" in letter.arrays:
            for name in ("protocol-secagg.", "protocol-next.secagg."):
                if f"{name}phase" in memory and memory[f"{name}phase"].tobytes() == b"Advertised":
                    state = msgspec.msgpack.decode(memory[f"{name}state"].tobytes())
                    needles.add("keys", state["share_private"])
                    needles.add("keys", state["mask_private"])
                    kept.append(name)
        hay.append(hay_of_message(letter.content))
        if letter.down:
            hay.append(haystack(reachable(play.server, play.grid, stop=[play.inner])))

    play = stage(PROTECTED["secagg"](), look=look)
    play.play(3)
    assert len(set(kept)) == 2
    assert needles.found(haystack(reachable(play.memories))) == {"keys"}
    assert needles.found(b"".join(hay)) == set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_leaves_no_key_behind(
    protocol: str,
    table: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the command line: the file is its owner's alone while it is there, then gone; nothing else has keys."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    made: list[tuple[Vault, Path, int, int]] = []
    strategy = PROTECTED[protocol]
    ready = vault_for(strategy(), 4)
    monkeypatch.setattr(strategy, "make_keys", lambda self, offices, processes=1: dict(ready.keys))
    monkeypatch.setattr(keys_of, "make_vault", lambda found: make_vault(found, test_only=True))
    save = Vault.save

    def saving(vault: Vault, path: Path) -> None:
        save(vault, path)
        modes = (stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent))
        made.append((vault, path, *modes))  # type: ignore[arg-type]

    monkeypatch.setattr(Vault, "save", saving)
    results = tmp_path / "results"
    options = [
        "--rounds",
        "2",
        "--model",
        "mlp(hidden=[4])",
        "--min-examples",
        "8",
        "--results",
        str(results),
        "--crypto-processes",
        "1",
    ]
    with caplog.at_level(logging.DEBUG):
        status = main(
            [
                "run",
                "--dataset",
                "table(person=person, label=label)",
                "--data",
                table,
                "--strategy",
                protocol,
                *options,
                "--json",
            ]
        )
    told_ = capfd.readouterr()
    assert status == 0, told_.err
    ((vault, path, mode, folder),) = made
    assert (mode, folder) == (0o600, 0o700)
    assert not path.exists()
    assert not path.parent.exists()
    needles = secrets_of(vault)
    files = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()]
    assert files, "the record is there"
    for hay in (*files, told_.out.encode(), told_.err.encode(), caplog.text.encode()):
        assert vault.secret not in hay
        assert needles.found(hay) == set()


def test_a_file_of_keys_is_its_owners_alone_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, path, opened = make_vault({"key": "text"}), tmp_path / "keys.json", []
    make = os.open

    def watched(name: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = make(name, flags, mode)
        opened.append((os.fstat(descriptor).st_mode & 0o777, bool(flags & os.O_EXCL)))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    umask = os.umask(0)
    try:
        vault.save(path)
    finally:
        os.umask(umask)
    assert opened == [(0o600, True)]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ProtectionError, match="never overwritten"):
        vault.save(path)
    assert Vault.load(path) == vault
    for mode in (0o640, 0o604, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(ProtectionError, match="can be read by others"):
            Vault.load(path)
