"""Sums under BFV and CKKS are the sums of the integers, and what does not belong in them is refused."""

import base64
import json
import math
import os
import sys
from functools import cache
from hashlib import sha256
from itertools import pairwise

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies.crypto.lattice import seal as edge
from strategies.crypto.lattice.sums import SCHEMES, Keys, Lattice, LatticeError, Total, keys, plan

Vector = NDArray[np.uint32]
PARAMETERS = [(scheme, bits) for scheme in SCHEMES for bits in (8, 12, 16, 24, 32)]


@cache
def run_keys(scheme: str, bits: int, clients: int) -> Keys:
    return keys(scheme, bits, clients)


@cache
def parties(scheme: str, bits: int, clients: int, count: int) -> tuple[Lattice, Lattice]:
    """An office and the server of one run."""
    pair = run_keys(scheme, bits, clients)
    return Lattice(pair.secret, count), Lattice(pair.public, count)


def summed(office: Lattice, server: Lattice, updates: list[Vector], tags: list[int]) -> tuple[Vector, int]:
    """Decrypt(sum of Encrypt(update, tag)), by way of the wire."""
    total = None
    for values, tag in zip(updates, tags, strict=True):
        total = server.add(total, office.encrypt(values, tag))
    assert total is not None
    return office.decrypt(server.dump(total))


def shares(total: Vector, clients: int, rng: np.random.Generator) -> list[Vector]:
    """`total` as a sum of `clients` vectors of unsigned integers, cut at random."""
    cuts = np.sort(rng.integers(0, total.astype(np.int64) + 1, (clients - 1, total.size)), axis=0)
    edges = [np.zeros_like(total), *cuts.astype(np.uint32), total]
    return [high - low for low, high in pairwise(edges)]


# The law: decrypt(encrypt(v_1, t_1) + ... + encrypt(v_K, t_K)) = v_1 + ... + v_K, t_1 + ... + t_K mod 2^64


@settings(max_examples=40, deadline=None)
@given(
    parameters=st.sampled_from(PARAMETERS),
    clients=st.integers(1, 5),
    count=st.sampled_from([1, 7, 5000]),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_sums_of_random_updates(
    parameters: tuple[str, int], clients: int, count: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    total = rng.integers(0, 1 << parameters[1], count).astype(np.uint32)
    tags = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=clients, max_size=clients))
    values, tag = summed(*parties(*parameters, clients, count), shares(total, clients, rng), tags)
    np.testing.assert_array_equal(values, total)
    assert values.dtype == np.uint32
    assert tag == sum(tags) % 2**64


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("bits", "clients"), [(8, 128), (9, 3), (12, 4), (16, 4), (16, 30), (24, 5), (32, 90)])
def test_saturated_and_extreme_updates(scheme: str, bits: int, clients: int) -> None:
    top, count = (1 << bits) - 1, 4097
    office, server = parties(scheme, bits, clients, count)
    full, zero, even = (np.full(count, value, np.uint32) for value in (top, 0, top // clients))
    # Each encrypted once: the same noise again adds up to more than fresh noise would
    sent = {int(values[0]): office.encrypt(values, 2**64 - 1) for values in (full, zero, even)}
    for updates in ([full] + [zero] * (clients - 1), [zero] * clients, [even] * clients):
        total = None
        for update in updates:
            total = server.add(total, sent[int(update[0])])
        assert total is not None
        values, tag = office.decrypt(server.dump(total))
        np.testing.assert_array_equal(values, np.sum(updates, axis=0, dtype=np.uint32))
        assert tag == -clients % 2**64
    np.testing.assert_array_equal(office.decrypt(office.encrypt(full, 3))[0], full)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sum_over_those_who_answered(scheme: str) -> None:
    office, server = parties(scheme, 16, 4, 10)
    updates = [np.arange(10, dtype=np.uint32) * k for k in (1, 2)]
    values, tag = summed(office, server, updates, [5, 6])
    np.testing.assert_array_equal(values, np.arange(10) * 3)
    assert tag == 11


@pytest.mark.parametrize("scheme", SCHEMES)
def test_adding_changes_neither_argument(scheme: str) -> None:
    office, server = parties(scheme, 16, 4, 10)
    payload = office.encrypt(np.full(10, 7, np.uint32), 1)
    first = server.add(None, payload)
    before, sent = server.dump(first).tobytes(), payload.tobytes()
    server.add(first, payload)
    assert server.dump(first).tobytes() == before
    assert payload.tobytes() == sent
    assert payload.dtype == np.uint8
    assert payload.ndim == 1


# Exactness rests on bounds, so the parameters are held to them


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", range(8, 33))
@pytest.mark.parametrize("clients", [1, 4, 90])
def test_parameters_are_secure_and_leave_room_for_the_noise(scheme: str, bits: int, clients: int) -> None:
    p = plan(scheme, bits, clients)
    api = edge.seal()
    assert p.modulus.bit_length() <= api.CoeffModulus.MaxBitCount(edge.DEGREE, api.SEC_LEVEL_TYPE.TC128) == 109
    assert api.Modulus(p.modulus).is_prime()
    assert p.modulus % (2 * edge.DEGREE) == 1
    assert clients * ((1 << p.limb_bits) - 1) < 1 << bits  # limbs of the tag add up inside a field
    assert p.limbs * p.limb_bits >= 64
    if scheme == "bfv":
        assert api.Modulus(p.plain).is_prime()
        assert p.plain % (2 * edge.DEGREE) == 1
        assert p.plain > 1 << p.slot_bits
        assert 4 * 22 * clients * p.plain < p.modulus
    else:
        assert 4 * 22 * clients * edge.DEGREE <= p.scale
        assert 4 * int(p.scale) << p.slot_bits < p.modulus
        assert p.slot_bits <= 36


@pytest.mark.parametrize(("bits", "clients"), [(8, 8), (16, 4), (16, 200)])
def test_bfv_keeps_a_bit_of_noise_budget(bits: int, clients: int) -> None:
    office, server = parties("bfv", bits, clients, 10)
    payload = office.encrypt(np.zeros(10, np.uint32), 0)
    total = server.add(None, payload)
    for _ in range(clients - 1):  # the same noise each time: more than independent ones add up to
        total = server.add(total, payload)
    api, document = edge.seal(), json.loads(run_keys("bfv", bits, clients).secret)
    context = edge.context("bfv", office.plan.modulus, office.plan.plain)
    secret = edge.load(api.SecretKey(), context, base64.b64decode(document["secret"]))
    assert api.Decryptor(context, secret).invariant_noise_budget(total.ciphertexts[0]) >= 1


def test_a_raw_ckks_decryption_has_noise_under_its_bound_and_ours_has_none() -> None:
    count, clients = 8000, 4
    office, server = parties("ckks", 16, clients, count)
    rng = np.random.default_rng(0)
    updates = shares(rng.integers(0, 1 << 16, count).astype(np.uint32), clients, rng)
    total: Total | None = None
    for update in updates:
        total = server.add(total, office.encrypt(update, 0))
    assert total is not None
    api, document = edge.seal(), json.loads(run_keys("ckks", 16, clients).secret)
    context = edge.context("ckks", office.plan.modulus, 0)
    secret = edge.load(api.SecretKey(), context, base64.b64decode(document["secret"]))
    plaintext = api.Plaintext()
    api.Decryptor(context, secret).decrypt(total.ciphertexts[0], plaintext)
    raw = np.array(api.CKKSEncoder(context).decode_complex(plaintext)).view(np.float64)
    error = np.abs(raw - np.rint(raw)).max()
    assert 0 < error < 0.25
    values, _ = office.decrypt(server.dump(total))
    assert values.dtype == np.uint32  # the integers, not what was rounded
    np.testing.assert_array_equal(values, np.sum(updates, axis=0, dtype=np.uint32))


@pytest.mark.parametrize(
    ("scheme", "bits", "clients", "message"),
    [
        ("bgv", 16, 4, "one of bfv, ckks; found 'bgv'"),
        ("bfv", 7, 4, r"\[8, 32\]; found 7"),
        ("ckks", 33, 4, r"\[8, 32\]; found 33"),
        ("bfv", 16, 0, r"\[1, 32768\] for fields of 16 bits; found 0"),
        ("bfv", 8, 129, r"\[1, 128\] for fields of 8 bits; found 129"),
        ("bfv", 32, 1 << 22, r"4194304 numbers of 32 bits need a modulus above 2\^6\d\.\d to be exact; .* 60 bits"),
        ("ckks", 32, 256, r"256 numbers of 32 bits need a modulus above 2\^6\d\.\d to be exact; .* 60 bits"),
    ],
)
def test_what_cannot_be_exact_is_refused(scheme: str, bits: int, clients: int, message: str) -> None:
    with pytest.raises(LatticeError, match=message):
        keys(scheme, bits, clients)


def test_a_modulus_beyond_the_security_table_is_refused() -> None:
    with pytest.raises(LatticeError, match="109 bits; found 110"):
        edge.context("bfv", (1 << 110) - 1, 65537)
    with pytest.raises(LatticeError, match="SEAL refuses q = 65537, t = 65537"):
        edge.context("bfv", 65537, 65537)


def test_more_offices_than_the_noise_has_room_for_are_refused() -> None:
    office, server = parties("bfv", 16, 2, 4)
    payload = office.encrypt(np.zeros(4, np.uint32), 0)
    total = server.add(server.add(None, payload), payload)
    with pytest.raises(LatticeError, match="up to 2 offices"):
        server.add(total, payload)
    with pytest.raises(LatticeError, match="1 to 2 offices is expected here; found 3"):
        office.decrypt(server.dump(Total(total.ciphertexts, 3)))


# Who holds what


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_servers_key_is_not_private(scheme: str) -> None:
    pair = run_keys(scheme, 16, 4)
    office, server = parties(scheme, 16, 4, 10)
    assert office.private
    assert not server.private
    assert set(json.loads(pair.public)) == {"scheme", "bits", "clients", "key"}
    assert len(pair.public) < 200  # a secret key has some 30,000
    assert office.key_id == server.key_id
    assert json.loads(pair.secret)["secret"] not in repr(pair)
    payload = office.encrypt(np.ones(10, np.uint32), 0)
    with pytest.raises(LatticeError, match="only a holder of the secret key can decrypt"):
        server.decrypt(payload)
    with pytest.raises(LatticeError, match="only a holder of the secret key can encrypt"):
        server.encrypt(np.ones(10, np.uint32), 0)


def test_a_damaged_key_is_refused_and_not_quoted() -> None:
    document = json.loads(run_keys("bfv", 16, 4).secret)
    secret = document["secret"]
    for change in (
        {"secret": secret[:-8]},
        {"secret": "no"},
        {"key": "xyz"},
        {"key": "00"},
        {"bits": "many"},
        {"key": 3},
    ):
        with pytest.raises(LatticeError, match="no key that `keys` made") as refused:
            Lattice(json.dumps(document | change).encode(), 10)
        assert refused.value.__cause__ is None
    for content in (b"", b"{}", b"[]", b"\xff\xfe", b"3"):
        with pytest.raises(LatticeError, match="no key that `keys` made"):
            Lattice(content, 10)
    with pytest.raises(LatticeError, match="at least one number; found 0"):
        Lattice(run_keys("bfv", 16, 4).public, 0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_encryption_is_fresh_also_in_forked_processes(scheme: str) -> None:
    office, _ = parties(scheme, 16, 4, 10)
    values = np.ones(10, np.uint32)
    digests = {sha256(office.encrypt(values, 0).tobytes()).digest() for _ in range(2)}
    for _ in range(2):  # Ray and Flower may fork a process that holds the generator
        read, write = os.pipe()
        if not (child := os.fork()):
            os.write(write, sha256(office.encrypt(values, 0).tobytes()).digest())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        digests.add(os.read(read, 32))
        os.close(read)
        os.close(write)
    assert len(digests) == 4


def test_keys_of_two_runs_differ() -> None:
    a, b = keys("bfv", 16, 4), keys("bfv", 16, 4)
    assert json.loads(a.secret)["secret"] != json.loads(b.secret)["secret"]
    assert json.loads(a.public)["key"] != json.loads(b.public)["key"]


# What is refused


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_runs_payload_is_refused(scheme: str) -> None:
    office, server = parties(scheme, 16, 4, 10)
    stranger = Lattice(keys(scheme, 16, 4).secret, 10)
    payload = stranger.encrypt(np.ones(10, np.uint32), 0)
    for refuse in (server.check, lambda p: server.add(None, p), office.decrypt):
        with pytest.raises(LatticeError, match=f"key {stranger.key_id}; this run's is {office.key_id}"):
            refuse(payload)
    # One that lies about its key passes the server, which cannot see it, and not the office
    forged = payload.copy()
    forged[4:12] = np.frombuffer(bytes.fromhex(office.key_id), np.uint8)
    server.check(forged)
    with pytest.raises(LatticeError, match="another key, a changed payload or an overflow"):
        office.decrypt(forged)
    total = server.add(server.add(None, office.encrypt(np.ones(10, np.uint32), 0)), forged)
    with pytest.raises(LatticeError, match="another key, a changed payload or an overflow"):
        office.decrypt(server.dump(total))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_damaged_payloads_are_refused(scheme: str) -> None:
    office, server = parties(scheme, 32, 4, 5000)  # two ciphertexts
    payload = office.encrypt(np.ones(5000, np.uint32), 0)
    server.check(payload)
    for length in (0, 3, 10, 24, 30, 31, 100, payload.size // 2, payload.size - 1):
        with pytest.raises(LatticeError, match=r"found .* other bytes|its header says at least"):
            server.check(payload[:length])
    with pytest.raises(LatticeError, match="its header says"):
        server.check(np.append(payload, np.uint8(0)))
    with pytest.raises(LatticeError, match=r"found .* other bytes"):
        server.check(np.arange(5000).astype(np.uint8))
    with pytest.raises(LatticeError, match=r"\(bytes,\) of uint8; found .* of float32"):
        server.check(payload.astype(np.float32))
    with pytest.raises(LatticeError, match=r"\(bytes,\) of uint8; found \(1, "):
        server.check(payload[None])
    junk = payload.copy()
    junk[-3000:-1000] = np.random.default_rng(0).integers(0, 256, 2000)
    junk[40:80] = 0
    with pytest.raises(LatticeError, match="ciphertext 0 of 2 does not fit this run's parameters"):
        server.check(junk)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_payload_of_another_count_or_of_a_sum_is_refused(scheme: str) -> None:
    office, server = parties(scheme, 16, 4, 10)
    longer, _ = parties(scheme, 16, 4, 50_000)
    assert longer.key_id == office.key_id
    with pytest.raises(LatticeError, match=r"10 numbers in 1 ciphertexts are expected; found 50000 in \d"):
        server.check(longer.encrypt(np.zeros(50_000, np.uint32), 0))
    payload = office.encrypt(np.zeros(10, np.uint32), 0)
    total = server.add(server.add(None, payload), payload)
    with pytest.raises(LatticeError, match="1 to 1 offices is expected here; found 2"):
        server.add(None, server.dump(total))


def test_ciphertexts_of_other_parameters_are_refused() -> None:
    wide, narrow = Lattice(run_keys("bfv", 32, 4).secret, 10), parties("bfv", 16, 4, 10)[1]
    forged = wide.encrypt(np.zeros(10, np.uint32), 0).copy()
    forged[4:12] = np.frombuffer(bytes.fromhex(narrow.key_id), np.uint8)
    with pytest.raises(LatticeError, match="ciphertext 0 of 1 does not fit"):
        narrow.check(forged)


def test_a_payload_that_cancels_the_total_is_refused() -> None:
    """c and -c add up to a ciphertext that hides nothing."""
    office, server = parties("bfv", 16, 4, 10)
    total = server.add(None, office.encrypt(np.ones(10, np.uint32), 0))
    api = edge.seal()
    negative = api.Ciphertext()
    api.Evaluator(edge.context("bfv", office.plan.modulus, office.plan.plain)).negate(total.ciphertexts[0], negative)
    with pytest.raises(LatticeError, match=r"cannot be added: .*transparent.* Leave this office out"):
        server.add(total, server.dump(Total((negative,), 1)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_that_do_not_fit_are_refused(scheme: str) -> None:
    office, _ = parties(scheme, 12, 4, 10)
    good = np.zeros(10, np.uint32)
    with pytest.raises(LatticeError, match="12 bits are below 4096; found 4096"):
        office.encrypt(good + np.uint32(4096), 0)
    with pytest.raises(LatticeError, match=r"values are \(10,\) unsigned; found \(9,\) of uint32"):
        office.encrypt(good[1:], 0)
    for dtype in (np.int64, np.float32):
        with pytest.raises(LatticeError, match=r"unsigned; found \(10,\) of " + np.dtype(dtype).name):
            office.encrypt(good.astype(dtype), 0)
    for tag in (-1, 2**64):
        with pytest.raises(LatticeError, match=rf"a tag is in \[0, 2\^64\); found {tag}"):
            office.encrypt(good, tag)


# What it costs and needs


@pytest.mark.parametrize(("scheme", "most"), [("bfv", 0.75), ("ckks", 1.05)])
def test_bytes_of_an_update_over_float32(scheme: str, most: float) -> None:
    count = 80_582
    office, server = parties(scheme, 16, 4, count)
    rng = np.random.default_rng(0)
    payload = office.encrypt(rng.integers(0, 1 << 14, count, dtype=np.uint32), 1)
    assert payload.nbytes < most * 4 * count
    total = server.dump(server.add(None, payload))
    assert math.isclose(total.nbytes / payload.nbytes, 2, rel_tol=0.02)  # a sum has no seed


def test_it_starts_no_thread() -> None:
    process = psutil.Process()
    before = process.num_threads()
    office = Lattice(keys("ckks", 16, 4).secret, 10)
    office.decrypt(office.encrypt(np.zeros(10, np.uint32), 0))
    assert process.num_threads() == before


def test_without_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, files of mode 0600 serve, and are gone afterwards."""
    monkeypatch.delattr(os, "memfd_create")
    opened: list[str] = []
    real = os.open

    def spy(path: str, flags: int, mode: int = 0o777, **rest: int | None) -> int:
        descriptor = real(path, flags, mode, **rest)
        if os.path.basename(path) == "seal":
            opened.append(path)
            assert os.fstat(descriptor).st_mode & 0o777 == 0o600
        return descriptor

    monkeypatch.setattr(os, "open", spy)
    office = Lattice(keys("bfv", 16, 4).secret, 10)
    values, _ = office.decrypt(office.encrypt(np.full(10, 9, np.uint32), 0))
    np.testing.assert_array_equal(values, np.full(10, 9))
    assert opened
    assert not any(os.path.exists(path) for path in opened)


def test_without_tenseal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal.sealapi", None)
    plan.cache_clear()
    with pytest.raises(LatticeError, match=r"pip install '\.\[he\]'"):
        keys("bfv", 16, 4)
    with pytest.raises(LatticeError, match=r"pip install '\.\[he\]'"):
        Lattice(b"{}", 10)
