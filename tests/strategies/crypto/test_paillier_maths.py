"""Paillier's laws: what is decrypted is the sum, phe opens everything, and nothing gives a plaintext away twice."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import phe.command_line
import pytest
from click.testing import CliRunner
from gmpy2 import gcd, invert, is_prime, jacobi, mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import StrategyError
from strategies.crypto.paillier import cryptor, obfuscators, primes
from strategies.crypto.paillier import cryptosystem as paillier
from strategies.crypto.paillier.cryptor import Cryptor, naive_cost
from strategies.crypto.paillier.cryptosystem import CiphertextError, PaillierError, PrivateKey, PublicKey, generate
from strategies.crypto.paillier.obfuscators import OBFUSCATORS, Full, Short, assumption
from strategies.crypto.paillier.packing import Packing
from tests.strategies.crypto.committed_test_primes import COMMITTED, LARGE, TOY, committed_key

KEYS = {name: committed_key(name) for name in COMMITTED}
FITTING = [  # every obfuscator on every kind of key that takes it
    ("safe", "full"),
    ("safe", "djn"),
    ("safe", "short"),
    ("safe", "textbook"),
    ("subgroup", "full"),
    ("subgroup", "textbook"),
    ("plain", "textbook"),
]
SMALL = {"safe": "safe-512", "subgroup": "subgroup-1024", "plain": "plain-512"}
property_test = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def small() -> Iterator[dict[tuple[str, str], Cryptor]]:
    """One Cryptor of each fitting pair, on keys of few bits."""
    made = {(kind, name): Cryptor(KEYS[SMALL[kind]], name, expected=300) for kind, name in FITTING}
    yield made
    for one in made.values():
        one.close()


# Exactness


@property_test
@pytest.mark.parametrize(("kind", "name"), FITTING)
@given(
    bits=st.integers(8, 32),
    offices=st.integers(1, 5),
    fill=st.sampled_from(["random", "none", "all"]),
    seed=st.integers(0, 2**32),
)
def test_the_decrypted_sum_of_encryptions_is_the_integer_sum(
    kind: str, name: str, bits: int, offices: int, fill: str, seed: int, small: dict[tuple[str, str], Cryptor]
) -> None:
    """Bit for bit: random values, none at all, and slots full to their last bit; and phe reads the same plaintexts."""
    one = small[kind, name]
    slots = Packing(70, bits, one.public.capacity)
    rng = np.random.default_rng(seed)
    largest = (2**bits - 1) // offices
    parts = {
        "random": rng.integers(0, largest, (offices, 70), np.uint64, endpoint=True),
        "none": np.zeros((offices, 70), np.uint64),
        "all": np.full((offices, 70), largest, np.uint64),
    }[fill]
    parts[0] += 2**bits - 1 - offices * largest if fill == "all" else 0  # up to 2^bits - 1 exactly
    tags = [int(rng.integers(0, 2**64 // offices, dtype=np.uint64)) for _ in range(offices)]
    payloads = [one.encrypt(slots.pack(part, tag)) for part, tag in zip(parts, tags, strict=True)]
    total = payloads[0]
    for payload in payloads[1:]:
        one.public.check(payload, slots.plaintexts)
        total = one.public.add(total, payload)
    assert total.shape == (slots.plaintexts, one.public.ciphertext_bytes)
    plaintexts = one.decrypt(total)
    values, tag = slots.unpack(plaintexts)
    np.testing.assert_array_equal(values, parts.sum(axis=0))
    assert tag == sum(tags)
    reference = KEYS[SMALL[kind]].phe()[1]
    assert plaintexts == [reference.raw_decrypt(int(c)) for c in one.public.numbers(total)]


@pytest.mark.parametrize(("kind", "name"), FITTING[:6])
def test_phe_opens_every_ciphertext_at_full_size(kind: str, name: str) -> None:
    key = KEYS[f"{kind}-3072"]
    plaintexts = [mpz(0), mpz(1), key.public.n - 1, mpz(2) ** key.public.capacity - 1]
    with Cryptor(key, name, expected=4) as one:
        payload = one.encrypt(plaintexts)
        one.public.check(payload, 4)
        assert payload.nbytes == 4 * 768
        assert one.decrypt(payload) == plaintexts
        public, private = key.phe()
        assert [private.raw_decrypt(int(c)) for c in one.public.numbers(payload)] == plaintexts
        theirs = [public.raw_encrypt(int(m)) for m in plaintexts[:2]]  # and the other way round
        assert one.decrypt(one.public.payload(map(mpz, theirs))) == plaintexts[:2]


def test_phe_adds_to_our_ciphertexts(small: dict[tuple[str, str], Cryptor]) -> None:
    one = small["safe", "full"]
    public, private = KEYS["safe-512"].phe()
    ours = phe.EncryptedNumber(public, int(one.public.numbers(one.encrypt([mpz(20)]))[0]), 0)
    assert private.decrypt(ours + public.encrypt(22)) == 42


def test_plaintexts_outside_of_the_modulus_are_refused(small: dict[tuple[str, str], Cryptor]) -> None:
    one = small["safe", "full"]
    for bad in (mpz(-1), one.public.n):
        with pytest.raises(PaillierError, match=r"\[0, n\)"):
            one.encrypt([bad])


def test_an_empty_list_is_an_empty_payload(small: dict[tuple[str, str], Cryptor]) -> None:
    one = small["safe", "full"]
    assert one.encrypt([]).shape == (0, one.public.ciphertext_bytes)
    assert one.decrypt(one.encrypt([])) == []
    small["safe", "textbook"].setup()
    assert len(small["safe", "textbook"].encrypt([])) == 0


# Obfuscators: their distributions and conditions


def residues(p: int, q: int) -> set[int]:
    """All n-th residues mod n^2: what r^n takes each value of once, for units r mod n."""
    n = p * q
    found = [pow(r, n, n * n) for r in range(1, n) if r % p and r % q]
    assert len(set(found)) == len(found) == (p - 1) * (q - 1)
    return set(found)


def test_full_is_exactly_textbooks_distribution() -> None:
    """Toy key 23 x 59: pairs of exponents, each uniform below its order, give every n-th residue exactly once."""
    full = Full(PrivateKey(*TOY, test_only=True), expected=100)
    e, f = zip(*product(range(22), range(58)), strict=True)
    found = full.at((e, f))
    assert len(found) == 1276
    assert set(map(int, found)) == residues(*TOY)
    common = range(22 * 58)  # one exponent for both sides, over and over the whole period
    half = full.at(([e % 22 for e in common], [e % 58 for e in common]))
    assert len(set(half)) == 638


def test_fulls_exponents_are_independent_and_uniform_below_their_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full(PrivateKey(*TOY, test_only=True), expected=100)
    asked: list[int] = []
    monkeypatch.setattr(obfuscators.secrets, "randbelow", lambda order: asked.append(order) or len(asked))
    e, f = full.draw(3)
    assert asked == [22, 22, 22, 58, 58, 58]
    assert (e, f) == ([1, 2, 3], [4, 5, 6])


def test_full_of_a_subgroup_key_is_the_whole_subgroup() -> None:
    """67 = 2 3 11 + 1 and 71 = 2 7 5 + 1: the residues of order dividing 6 mod 67^2 and 14 mod 71^2, each once."""
    full = Full(PrivateKey(67, 71, (3, 7), test_only=True), expected=100)
    e, f = zip(*product(range(6), range(14)), strict=True)
    subgroup = {x for x in residues(67, 71) if pow(x, 6, 67**2) == 1 == pow(x, 14, 71**2)}
    found = full.at((e, f))
    assert len(found) == len(subgroup) == 84
    assert set(map(int, found)) == subgroup


def test_a_modulus_whose_powers_are_not_one_to_one_is_refused() -> None:
    assert 46 % 23 == 0  # q - 1 is a multiple of p: both are safe primes, and still
    with pytest.raises(PaillierError, match=r"gcd\(n, \(p-1\)\(q-1\)\) must be 1"):
        PrivateKey(23, 47, test_only=True)


def test_fulls_bases_have_the_whole_order() -> None:
    with pytest.raises(PaillierError, match="factors of p - 1"):
        obfuscators._generator(mpz(31), mpz(30))  # 15 is no prime: -y^2 has order 30, 10 or 6
    key = KEYS["safe-3072"]
    p, order = key.p, key.obfuscator_orders[0]
    base = obfuscators._generator(p, order)
    powers = [pow(int(base), int(k), int(p) ** 2) for k in (2, order // 2, order)]
    assert powers[0] != 1
    assert powers[1] == p**2 - 1
    assert powers[2] == 1


@pytest.mark.parametrize("name", ["short", "djn"])
def test_short_and_half_length_obfuscators_have_jacobi_symbol_one(name: str) -> None:
    key = KEYS["safe-512"]
    made = obfuscators.build(name, key, expected=100)(50)
    assert {jacobi(o, key.public.n) for o in made} == {1}
    assert {jacobi(o, key.public.n) for o in obfuscators.build("full", key, 100)(50)} == {1, -1}


def test_the_lengths_of_drawn_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    key = KEYS["safe-512"]
    asked: list[int] = []
    monkeypatch.setattr(obfuscators.secrets, "randbits", lambda bits: asked.append(bits) or 5)
    short = Short(key, expected=10)
    e, f = short.draw(2)
    assert e == f  # one exponent for both sides: a power of h_s mod n^2
    obfuscators.build("djn", key, expected=10)(1)
    assert asked == [256, 256, 256]  # djn: half of 512


def test_tables_give_the_powers_of_one_base_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    key = KEYS["safe-3072"]
    n2 = key.public.square
    rng = np.random.default_rng(0)
    e, f = (int.from_bytes(rng.bytes(191), "little") for _ in range(2))  # 1,528 bits of 1,535
    full = Full(key, expected=5)
    (ours,) = full.at(([e], [f]))
    p_base, q_base = (obfuscators._generator(p, p - 1) for p in (key.p, key.q))
    assert ours % key.p**2 == powmod(p_base, e, key.p**2)
    assert ours % key.q**2 == powmod(q_base, f, key.q**2)
    short = Short(key, expected=5)
    h, power = short.at(([1, e % 2**256], [1, e % 2**256]))
    assert power == powmod(h, e % 2**256, n2)
    monkeypatch.setattr(obfuscators.secrets, "randbits", lambda _, drawn=[1, e]: drawn.pop(0))
    h, power = obfuscators.build("djn", key, expected=5)(2)
    assert power == powmod(h, e, n2)
    assert key.decrypt(key.public.payload([h])) == [0]


def test_what_does_not_fit_is_refused() -> None:
    for kind, name in product(SMALL, OBFUSCATORS):
        if (kind, name) in FITTING:
            obfuscators.check_fit(name, KEYS[SMALL[kind]])
        else:
            with pytest.raises(PaillierError, match=f"{name} obfuscators (need|leave)"):
                Cryptor(KEYS[SMALL[kind]], name)
    with pytest.raises(StrategyError, match="obfuscator must be one of"):
        Cryptor(KEYS["safe-512"], "fast")


def test_every_obfuscator_says_what_it_assumes() -> None:
    for name in OBFUSCATORS:
        assert "residuosity" in assumption(name)
        assert "\n" not in assumption(name)
    assert "subgroup" in assumption("full", "subgroup")
    assert "exactly textbook" in assumption("full", "safe")
    assert "2^128" in assumption("short")


# The public side


def test_bad_ciphertexts_are_refused(small: dict[tuple[str, str], Cryptor]) -> None:
    public, p = KEYS["safe-512"].public, KEYS["safe-512"].p
    good = small["safe", "full"].encrypt([mpz(1), mpz(2), mpz(3)])
    public.check(good, 3)
    for number, why in (
        (mpz(0), "ciphertext 1 is outside"),
        (public.square, "ciphertext 1 is outside"),
        (public.square + 1, "ciphertext 1 is outside"),
        (5 * p, "ciphertext 1 has a factor in common"),
        (public.n, "ciphertext 1 has a factor in common"),
    ):
        bad = good.copy()
        bad[1] = public.payload([number])[0]
        with pytest.raises(CiphertextError, match=why):
            public.check(bad, 3)
        with pytest.raises(CiphertextError, match=why):
            small["safe", "full"].decrypt(bad)
    for payload, why in (
        (good[:2], "expected 3 ciphertexts of 128 bytes"),
        (good[:, :-1], "expected 3 ciphertexts of 128 bytes"),
        (good.ravel(), "expected 3 ciphertexts of 128 bytes"),
        (good.astype(np.int64), "travel as uint8; found int64"),
        (good.tobytes(), "travel as uint8; found <class 'bytes'>"),
    ):
        with pytest.raises(CiphertextError, match=why):
            public.check(payload, 3)  # type: ignore[arg-type]
    with pytest.raises(CiphertextError, match="cannot add"):
        public.add(good, good[:2])
    with pytest.raises(CiphertextError, match="check payloads"):
        KEYS["safe-512"].decrypt(public.payload([p]))


def test_adding_leaves_its_arguments_alone(small: dict[tuple[str, str], Cryptor]) -> None:
    one = small["safe", "full"]
    a, b = one.encrypt([mpz(1)]), one.encrypt([mpz(2)])
    before = a.tobytes(), b.tobytes()
    assert one.decrypt(one.public.add(a, b)) == [3]
    assert (a.tobytes(), b.tobytes()) == before


# Keys and their files


def test_generated_keys_are_what_they_say() -> None:
    for bits, kind in ((256, "safe"), (1024, "subgroup")):
        key = generate(bits, kind, test_only=True)  # type: ignore[arg-type]
        assert key.public.n.bit_length() == bits
        assert key.kind == kind
        for prime, order in zip((key.p, key.q), key.obfuscator_orders, strict=True):
            assert is_prime(prime)
            assert is_prime(order // 2)
            assert (prime - 1) % order == 0
            assert is_prime((prime - 1) // order) or prime - 1 == order
            assert order.bit_length() == (449 if kind == "subgroup" else bits // 2)
        assert gcd(key.p - 1, key.q - 1) == 2


def test_processes_share_the_search_for_primes() -> None:
    (p, half), (q, _) = primes.prime_pair(256, subgroup=False, processes=2)
    assert p == 2 * half + 1
    assert (p * q).bit_length() == 256


@pytest.mark.parametrize("multiplier", [2, 2 * 31])
def test_the_sieve_keeps_exactly_what_has_no_small_factor(monkeypatch: pytest.MonkeyPatch, multiplier: int) -> None:
    """The window and the largest factor follow from the length of m x + 1: at 32 bits 512 odd x, factors to 2,048."""
    monkeypatch.setattr(primes.secrets, "randbelow", lambda width: width // 2)
    low, high = 2**31 // multiplier, 2**32 // multiplier - 1
    start = (low + (high - low - 2 * 512) // 2) | 1
    small = primes._odd_primes(2048).tolist()
    assert small[:4] == [3, 5, 7, 11]
    assert len(small) == 308
    kept = [x for x in range(start, start + 1024, 2) if all(x % q and (multiplier * x + 1) % q for q in small)]
    assert sorted(primes._candidates(mpz(low), mpz(high), mpz(multiplier))) == kept


def test_short_keys_are_refused() -> None:
    key = KEYS["safe-512"]
    for make in (
        lambda: PublicKey(key.public.n),
        lambda: PrivateKey(key.p, key.q),
        lambda: generate(1024),
        lambda: PrivateKey.from_jwk(key.jwk()),
        lambda: PublicKey.from_jwk(key.public.jwk()),
    ):
        with pytest.raises(PaillierError, match="at least 2048 bits"):
            make()
    for bits, kind in ((2047, "safe"), (64, "safe"), (900, "subgroup")):
        with pytest.raises(StrategyError, match="a modulus"):
            primes.prime_pair(bits, kind == "subgroup")
    with pytest.raises(StrategyError, match="kind must be one of"):
        generate(kind="plain")


def test_committed_primes_are_refused_outside_of_tests() -> None:
    digests = set()
    for name in LARGE:
        key = KEYS[name]
        for make in (
            lambda key=key: PrivateKey(key.p, key.q, key.orders),
            lambda key=key: PublicKey(key.public.n),
            lambda key=key: PrivateKey.from_jwk(key.jwk()),
        ):
            with pytest.raises(PaillierError, match="committed with the tests"):
                make()
        assert PrivateKey.from_jwk(key.jwk(), test_only=True) == key
        n = int(key.public.n)
        digests.add(hashlib.sha256(n.to_bytes(n.bit_length() // 8, "big")).hexdigest())
    assert digests == paillier._COMMITTED
    assert {key.public.n.bit_length() for name, key in KEYS.items() if name not in LARGE} == {512, 1024}


def test_numbers_that_make_no_key_are_refused() -> None:
    p, q = KEYS["safe-512"].p, KEYS["safe-512"].q
    for bad in ((p, p), (p, q + 2), (p * q, q)):
        with pytest.raises(PaillierError, match="two different primes"):
            PrivateKey(*bad, test_only=True)
    a, b = KEYS["subgroup-1024"].orders or (0, 0)
    sub = KEYS["subgroup-1024"]
    for orders in ((b, a), (a, 2 * b), (3, 3)):
        with pytest.raises(PaillierError, match="orders must be primes"):
            PrivateKey(sub.p, sub.q, orders, test_only=True)
    with pytest.raises(PaillierError, match="orders must be primes"):
        PrivateKey(31, 43, (5, 7), test_only=True)  # 2 5 3 + 1 and 2 7 3 + 1: 3 divides both


@pytest.mark.parametrize("name", ["safe-3072", "subgroup-3072"])
def test_phes_command_line_reads_our_files(name: str, tmp_path: Path) -> None:
    key = KEYS[name]
    (tmp_path / "key.json").write_text(key.jwk())
    run = CliRunner().invoke
    tool = phe.command_line.cli
    at = {what: str(tmp_path / what) for what in ("key.json", "public.json", "number.json", "out")}
    assert run(tool, ["extract", at["key.json"], at["public.json"]]).exit_code == 0
    public = PublicKey.from_jwk((tmp_path / "public.json").read_text(), test_only=True)
    assert public == key.public
    encrypted = run(tool, ["encrypt", "--output", at["number.json"], at["public.json"], "0.25"])
    assert encrypted.exit_code == 0
    decrypted = run(tool, ["decrypt", "--output", at["out"], at["key.json"], at["number.json"]])
    assert decrypted.exit_code == 0
    assert float((tmp_path / "out").read_text()) == 0.25


def test_we_read_phes_files(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    made = CliRunner().invoke(phe.command_line.cli, ["genpkey", "--keysize", "512", str(path)])
    assert made.exit_code == 0
    key = PrivateKey.from_jwk(path.read_text(), test_only=True)
    assert key.kind == "plain"
    assert key.public.n.bit_length() == 512


def test_damaged_key_files_are_refused() -> None:
    good = json.loads(KEYS["safe-512"].jwk())
    for text in ("", "[]", "{}", json.dumps(good | {"kty": "RSA"})):
        with pytest.raises(PaillierError, match="kty DAJ"):
            PrivateKey.from_jwk(text, test_only=True)
    for change in ({"p": 5}, {"p": "*"}, {"p": None}, {"pub": {}}, {"a": good["p"]}):
        with pytest.raises(PaillierError, match="base64url integer"):
            PrivateKey.from_jwk(json.dumps(good | change), test_only=True)
    with pytest.raises(PaillierError, match="another n than p q"):
        PrivateKey.from_jwk(json.dumps(good | {"pub": {"n": good["p"]}}), test_only=True)


def test_secrets_stay_out_of_logs_and_pickles() -> None:
    key = KEYS["safe-3072"]
    shown = repr(key) + str(key) + repr(key.public)
    assert "3072 bits" in shown
    assert key.public.key_id in shown
    assert str(key.p) not in shown
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            leak(key)
    assert pickle.loads(pickle.dumps(key.public)) == key.public


# Processes, and obfuscators made ahead


def obfuscators_of(public: PublicKey, payload: np.ndarray, plaintexts: list[mpz]) -> list[mpz]:
    """o = c / (1 + n m) mod n^2."""
    pairs = zip(public.numbers(payload), plaintexts, strict=True)
    return [c * invert(1 + public.n * m, public.square) % public.square for c, m in pairs]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_obfuscator_is_used_once(processes: int) -> None:
    """Whatever is prepared, too much or too little: all differ, and what was prepared is what is used."""
    with Cryptor(KEYS["safe-512"], "full", processes, expected=100) as one:
        used: list[mpz] = []
        for ahead, wanted in ((0, 3), (5, 4), (2, 6), (9, 1), (0, 8), (1, 1)):
            one.prepare(ahead)
            plaintexts = [mpz(7)] * wanted
            payload = one.encrypt(plaintexts)
            assert one.decrypt(payload) == plaintexts
            used += obfuscators_of(one.public, payload, plaintexts)
        assert len(set(used)) == len(used) == 23
        assert not any(one.decrypt(one.public.payload(used)))  # n-th residues: they decrypt to 0
        if processes == 1:
            stock = list(one._stock)
            payload = one.encrypt([mpz(0)] * len(stock))
            assert one.public.numbers(payload) == stock
            assert not one._stock


def test_a_fork_shares_no_obfuscators() -> None:
    one = Cryptor(KEYS["safe-512"], "full", expected=100)
    one.prepare(4)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, one.encrypt([mpz(0)] * 4).tobytes())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        theirs = np.frombuffer(pipe.read(), np.uint8).reshape(4, -1)
    os.waitpid(child, 0)
    both = one.public.numbers(theirs) + one.public.numbers(one.encrypt([mpz(0)] * 4))
    assert len(set(both)) == 8


def test_workers_refuse_to_serve_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cryptor(KEYS["safe-512"], "full", processes=2, expected=10) as one:
        with monkeypatch.context() as patch:
            patch.setattr(cryptor.os, "getpid", lambda: -1)
            with pytest.raises(PaillierError, match="belong to the process that made it"):
                one.prepare(1)
        assert one.decrypt(one.encrypt([mpz(3)])) == [3]


def test_two_processes_decrypt_what_one_does() -> None:
    key = KEYS["safe-512"]
    with Cryptor(key, "short", 2, expected=10) as two, Cryptor(key, "short", 1, expected=10) as one:
        two.setup()
        assert two.cpu_s > 0
        assert one.cpu_s == 0
        for count in (0, 1, 2, 7):
            plaintexts = [mpz(i) ** 20 for i in range(count)]
            payload = two.encrypt(plaintexts)
            assert two.decrypt(payload) == one.decrypt(payload) == plaintexts
            assert two.decrypt(one.encrypt(plaintexts)) == plaintexts


def test_a_dead_worker_is_noticed() -> None:
    one = Cryptor(KEYS["safe-512"], "full", processes=2, expected=10)
    one._workers[1]._process.kill()
    one._workers[1]._process.join()
    with pytest.raises(PaillierError, match="process has died"):
        one.encrypt([mpz(1), mpz(2)])
    one.close()
    with pytest.raises(PaillierError, match="is closed"):
        one.encrypt([mpz(1)])
    with pytest.raises(PaillierError, match="at least 1"):
        Cryptor(KEYS["safe-512"], processes=0)


def test_workers_import_little_and_hold_no_key_on_their_command_line() -> None:
    heavy = "{'flwr', 'torch', 'numba', 'ray', 'pandas', 'scipy'}"
    code = "import sys, strategies.crypto.paillier.cryptor"
    code += f"; print({heavy} & {{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    key = KEYS["safe-512"]
    with Cryptor(key, "full", processes=2, expected=10) as one:
        one.setup()
        for worker in one._workers:
            about = Path(f"/proc/{worker._process.pid}")
            if about.exists():
                shown = (about / "cmdline").read_bytes() + (about / "environ").read_bytes()
                for text in (str(key.p), f"{key.p:x}", json.loads(key.jwk())["p"]):
                    assert text.encode() not in shown


def test_the_naive_cost_is_extrapolated_from_a_sample() -> None:
    cost = naive_cost(KEYS["safe-512"], count=1000, sample=4)
    assert phe.util.HAVE_GMP  # without it phe is many times slower, and no fair comparison
    assert 0 < cost.decrypt_s < 1000
    assert 0 < cost.encrypt_s < 1000
