"""secagg: the sum of exactly those who answered, bit for bit, and of nobody the input alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from strategies.crypto import shamir
from strategies.crypto.masking import Slots, shift
from strategies.crypto.secagg import office as secagg
from strategies.crypto.secagg import server as secagg_server
from strategies.crypto.secagg.office import Closed, Masked, Shared, State, Terms, from_memory, to_memory
from strategies.crypto.secagg.server import Server
from strategies.crypto.shamir import SHARE_BYTES
from strategies.crypto.streams import ProtectionError, check_tags, derive, tag
from tests.strategies.protection.slots import collect

SECRET = bytes(range(32))
BITS = 12
PHASES = ("advertise", "share", "mask", "reveal")
STAYS = len(PHASES)


def terms(offices: int = 4, round_: int = 1, bits: int = BITS, count: int = 5) -> Terms:
    return Terms("run", round_, offices, bits, count)


def inputs(agreed: Terms, kind: str = "random", seed: int = 0) -> dict[int, Slots]:
    rng, top = np.random.default_rng(seed), 2**agreed.bits
    low, high = {"random": (0, top), "saturated": (top - 1, top), "zero": (0, 1)}[kind]
    return {
        k: Slots(
            rng.integers(low, high, agreed.count, dtype=np.uint64).astype(np.uint32),
            tag(SECRET, agreed.run, agreed.round, k, agreed.offices),
            agreed.bits,
        )
        for k in range(agreed.offices)
    }


def plain_sum(parts: Mapping[int, Slots], offices: Collection[int], bits: int) -> list[int]:
    columns = zip(*(parts[k].values.tolist() for k in offices), strict=True)
    return [sum(column) % 2**bits for column in columns]


def kept(state: State) -> State:
    """The state as it comes back from the office's file."""
    file = {name: np.frombuffer(array.tobytes(), array.dtype) for name, array in to_memory(state).items()}
    return from_memory(file, state.terms, state.office)


@dataclasses.dataclass
class Round:
    """One whole round, and all that the server has seen of it."""

    server: Server
    total: Slots
    states: dict[int, State]
    mail: dict[int, dict[int, bytes]]
    sent: dict[int, Slots]  # masked inputs
    replies: dict[int, bytes]
    private: dict[int, bytes]  # masking keys, which the server has not


def play(agreed: Terms, parts: Mapping[int, Slots], leaves: Mapping[int, int] | None = None) -> Round:
    """A round in which office k takes part in the phases before number leaves[k]."""
    leaves = leaves or {}

    def present(phase: int) -> list[int]:
        return [k for k in parts if leaves.get(k, STAYS) > phase]

    states: dict[int, State] = {k: kept(secagg.advertise(agreed, k)) for k in present(0)}
    private = {k: state.mask_private for k, state in states.items()}
    server = secagg_server.gather(agreed, {k: state.advert for k, state in states.items()})
    sealed = {}
    for k in present(1):
        state, sealed[k] = secagg.share(states[k], server.adverts)
        states[k] = kept(state)
    server, mail = secagg_server.route(server, sealed)
    sent = {}
    for k in present(2):
        state, sent[k] = secagg.mask(states[k], mail[k], parts[k])
        states[k] = kept(state)
        server = collect(server, k, sent[k])
    answered, dropped = secagg_server.request(server)
    replies = {}
    for k in present(3):
        state, replies[k] = secagg.reveal(states[k], answered, dropped)
        states[k] = kept(state)
    return Round(server, secagg_server.recover(server, replies), states, mail, sent, replies, private)


def until_masked(agreed: Terms, parts: Mapping[int, Slots]) -> tuple[Server, dict[int, Masked]]:
    states = {k: secagg.advertise(agreed, k) for k in parts}
    server = secagg_server.gather(agreed, {k: state.advert for k, state in states.items()})
    dealt = {k: secagg.share(state, server.adverts) for k, state in states.items()}
    server, mail = secagg_server.route(server, {k: sealed for k, (_, sealed) in dealt.items()})
    masked = {}
    for k, (state, _) in dealt.items():
        masked[k], sent = secagg.mask(state, mail[k], parts[k])
        server = collect(server, k, sent)
    return server, masked


# --- The sum


@pytest.mark.parametrize("offices", [4, 5])
def test_every_dropout_pattern_above_the_threshold_sums_exactly(offices: int) -> None:
    """All ways in which K offices leave before one of the four phases, or never, and enough remain."""
    agreed = terms(offices)
    parts = inputs(agreed)
    summed = 0
    for pattern in itertools.product(range(STAYS + 1), repeat=offices):
        leaves = dict(enumerate(pattern))
        if sum(phase == STAYS for phase in pattern) < agreed.threshold:
            continue
        total = play(agreed, parts, leaves).total
        answered = [k for k, phase in leaves.items() if phase > 2]
        assert total.values.tolist() == plain_sum(parts, answered, BITS)
        check_tags(total.check, SECRET, "run", 1, answered, offices)
        summed += 1
    assert summed == 1 + 4 * offices  # with these thresholds one office may go, whenever it likes


@pytest.mark.parametrize("offices", [4, 5])
def test_below_the_threshold_the_round_fails_in_the_phase_that_lacks_offices(offices: int) -> None:
    """All ways but for the order of offices."""
    agreed = terms(offices)
    parts = inputs(agreed)
    names = {"advertise": "adverts", "share": "shares", "mask": "masked input", "reveal": "unmasking"}
    failed = 0
    for pattern in itertools.combinations_with_replacement(range(STAYS + 1), offices):
        left = [sum(phase > at for phase in pattern) for at in range(STAYS)]
        if left[-1] >= agreed.threshold:
            continue
        phase = next(name for name, count in zip(PHASES, left, strict=True) if count < agreed.threshold)
        with pytest.raises(ProtectionError, match=f"round 1, {names[phase]}.*at least {agreed.threshold} are needed"):
            play(agreed, parts, dict(enumerate(pattern)))
        failed += 1
    assert failed == {4: 70, 5: 126}[offices] - 1 - 4


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_sums_are_exact_for_all_widths_inputs_and_numbers_of_offices(data: st.DataObject) -> None:
    agreed = terms(
        data.draw(st.integers(3, 8)),
        data.draw(st.integers(1, 99)),
        data.draw(st.integers(8, 32)),
        data.draw(st.integers(1, 30)),
    )
    kind = data.draw(st.sampled_from(["random", "saturated", "zero"]))
    parts = inputs(agreed, kind, data.draw(st.integers(0, 2**32 - 1)))
    goers = data.draw(st.permutations(range(agreed.offices)))[agreed.threshold :]
    leaves = {k: data.draw(st.integers(0, STAYS)) for k in goers}
    total = play(agreed, parts, leaves).total
    answered = [k for k in parts if leaves.get(k, STAYS) > 2]
    assert total.values.tolist() == plain_sum(parts, answered, agreed.bits)
    check_tags(total.check, SECRET, agreed.run, agreed.round, answered, agreed.offices)


def test_arguments_are_left_alone_and_office_numbers_need_not_be_consecutive() -> None:
    agreed = terms(4)
    parts = dict(zip((17, 3, 4_000_000_000, 0), inputs(agreed).values(), strict=True))
    before = {k: part.values.copy() for k, part in parts.items()}
    total = play(agreed, parts, {3: 2}).total
    assert total.values.tolist() == plain_sum(parts, [17, 4_000_000_000, 0], BITS)
    assert all(np.array_equal(part.values, before[k]) for k, part in parts.items())


@pytest.mark.parametrize(("offices", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (9, 7), (30, 21)])
def test_the_threshold_is_two_thirds_and_one(offices: int, threshold: int) -> None:
    assert terms(offices).threshold == threshold
    assert 2 * threshold > offices + 1


@pytest.mark.parametrize(
    ("change", "match"),
    [({"offices": 2}, "at least 3 offices; found 2"), ({"bits": 33}, "found 33"), ({"count": 0}, "found 0")],
)
def test_other_terms_are_refused(change: dict, match: str) -> None:
    with pytest.raises(ProtectionError, match=match):
        dataclasses.replace(terms(), **change)


@pytest.mark.parametrize("office", [-1, 2**32 - 1])
def test_an_office_number_that_is_no_point_is_refused(office: int) -> None:
    with pytest.raises(ProtectionError, match=f"found {office}"):
        secagg.advertise(terms(), office)


# --- What the server sees


@pytest.mark.parametrize("offices", [4, 5])
def test_never_both_secrets_of_one_office(offices: int) -> None:
    """Of each office the server rebuilds the seed or the masking key; the shares it has of the other are none."""
    agreed = terms(offices)
    for gone, phase in itertools.product(range(offices), range(1, STAYS + 1)):
        seen = play(agreed, inputs(agreed), {gone: phase})
        sharers, answered = sorted(seen.server.sharers), seen.server.answered
        assert len(seen.replies) >= agreed.threshold
        for i, owner in enumerate(sharers):
            shares = {k + 1: r[i * SHARE_BYTES : (i + 1) * SHARE_BYTES] for k, r in seen.replies.items()}
            rebuilt = shamir.combine(shares, agreed.threshold)  # all shares of it are of one secret
            is_key = public(rebuilt) == seen.server.adverts[owner][32:]
            assert is_key == (owner not in answered)


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def stories(agreed: Terms, me: int) -> list[tuple[set[int], set[int], set[int]]]:
    """(U2, answered, dropped) for every story about U2 and U3 that office `me` believes, so that it reveals shares."""
    everybody = set(range(agreed.offices))
    states = {k: secagg.advertise(agreed, k) for k in everybody}
    dealt = {k: secagg.share(state, {j: s.advert for j, s in states.items()}) for k, state in states.items()}
    believed = []
    for sharers in subsets(everybody):
        mail = {k: dealt[k][1][me] for k in sharers - {me}}
        for answered in subsets(sharers):
            try:
                state, _ = secagg.mask(dealt[me][0], mail, inputs(agreed)[me])
                secagg.reveal(state, answered, sharers - answered)
            except ProtectionError:
                continue
            believed.append((sharers | {me}, answered, sharers - answered))
    return believed


def subsets(offices: Collection[int]) -> list[set[int]]:
    return [set(some) for n in range(len(offices) + 1) for some in itertools.combinations(sorted(offices), n)]


def inputs_opened(agreed: Terms, curious: set[int]) -> int:
    """In how many combinations of stories the server and the curious offices open an honest office's input.

    It is open when its seed is known and the mask of each of its pairs: by its own key, by the other's, or because the
    other is curious.
    """
    honest = sorted(set(range(agreed.offices)) - curious)
    opened = 0
    for told in itertools.product(*(stories(agreed, k) for k in honest)):
        seeds, keys = (
            {
                owner
                for owner in range(agreed.offices)
                if len(curious) + sum(owner in story[kind] for story in told) >= agreed.threshold
            }
            for kind in (1, 2)
        )
        for k, (sharers, _, _) in zip(honest, told, strict=True):
            others = sharers - {k}
            opened += k in seeds and (k in keys or others <= keys | curious)
    return opened


def test_one_curious_office_and_a_server_that_lies_open_no_single_input() -> None:
    """Of four offices, in all combinations of the stories that the honest three believe; with two curious it works."""
    agreed = terms(4)
    assert len(stories(agreed, 0)) == 7  # nobody gone, one of three gone before sharing, or one of three after it
    assert inputs_opened(agreed, {3}) == 0
    assert inputs_opened(agreed, {2, 3}) > 0


@pytest.mark.parametrize("kind", ["zero", "saturated"])
def test_masked_inputs_look_uniform_and_never_repeat(kind: str) -> None:
    agreed = terms(bits=8, count=60_000)
    parts = inputs(agreed, kind)
    rounds = [play(dataclasses.replace(agreed, round=t), parts) for t in (1, 2)]
    for seen in rounds:
        still_masked = seen.server.total
        assert still_masked is not None
        for slots in (*seen.sent.values(), still_masked):  # the sum too, until the seeds are revealed
            assert chisquare(np.bincount(slots.values, minlength=256)).pvalue > 1e-9
    assert len({slots.values.tobytes() for seen in rounds for slots in seen.sent.values()}) == 8
    moved = (rounds[0].sent[0].values - rounds[1].sent[0].values) & 255
    assert chisquare(np.bincount(moved, minlength=256)).pvalue > 1e-9  # two-time pads would give 0 here


def test_check_slots_look_uniform() -> None:
    agreed = terms(offices=8, count=1)
    checks = [slots.check for _ in range(25) for slots in play(agreed, inputs(agreed)).sent.values()]
    bits = np.array([[check >> bit & 1 for bit in range(64)] for check in checks])  # (200, 64)
    assert (np.abs(bits.sum(axis=0) - 100) < 6.5 * 7.1).all()  # standard deviations of 200 fair coins
    assert len(set(checks)) == 200


def stripped(masked: Slots, agreed: Terms, adverts: Mapping[int, bytes], me: int, private: bytes, seed: bytes) -> Slots:
    """An office's masked input without the masks that follow from this private key and this seed."""
    key = X25519PrivateKey.from_private_bytes(private)
    pairs = {k: secagg.pair_key(key, advert[32:], agreed, "mask", me, k) for k, advert in adverts.items() if k != me}
    return shift(
        masked,
        plus=[pairs[k] for k in pairs if k < me],
        minus=[secagg.seed_key(seed, agreed, me), *(pairs[k] for k in pairs if k > me)],
    )


def revealed(seen: Round, owner: int) -> bytes:
    i = sorted(seen.server.sharers).index(owner)
    shares = {k + 1: reply[i * SHARE_BYTES : (i + 1) * SHARE_BYTES] for k, reply in seen.replies.items()}
    return shamir.combine(shares, seen.server.terms.threshold)


def test_keys_of_pairs_are_of_their_run_round_use_and_offices() -> None:
    """HKDF(X25519; salt = run, info = use, round, lower id, higher id), the same at both ends."""
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    to_a, to_b = a.public_key().public_bytes_raw(), b.public_key().public_bytes_raw()
    key = secagg.pair_key(a, to_b, terms(), "mask", 7, 3)
    assert key == secagg.pair_key(b, to_a, terms(), "mask", 3, 7)
    assert key == derive(a.exchange(b.public_key()), "run", "mask", 1, 3, 7)
    others = [
        secagg.pair_key(a, to_b, terms(), "channel", 7, 3),
        secagg.pair_key(a, to_b, terms(), "mask", 7, 4),
        secagg.pair_key(a, to_b, terms(round_=2), "mask", 7, 3),
        secagg.pair_key(a, to_b, dataclasses.replace(terms(), run="nur"), "mask", 7, 3),
        secagg.pair_key(a, to_a, terms(), "mask", 7, 3),
    ]
    assert len({key, *others}) == 6
    seeds = [secagg.seed_key(SECRET, terms(round_=t), k) for t in (1, 2) for k in (0, 1)]
    assert len(set(seeds)) == 4


def test_a_later_rounds_unmasking_opens_no_earlier_round() -> None:
    """Round 1 reveals every seed, round 2 the masking key of office 0: with keys kept from round to round, both."""
    first = play(terms(round_=1), inputs(terms()))
    second = play(terms(round_=2), inputs(terms()), {0: 2})
    seed, later_key = revealed(first, 0), revealed(second, 0)
    assert public(later_key) == second.server.adverts[0][32:]
    own = inputs(terms())[0]

    def opened(private: bytes) -> bool:
        found = stripped(first.sent[0], first.server.terms, first.server.adverts, 0, private, seed)
        return bool((found.values == own.values).all()) or found.check == own.check

    assert opened(first.private[0])  # the attack works with the key of its own round
    assert not opened(later_key)
    assert not any(opened(revealed(second, k)) for k in range(1, 4))
    used = [
        {advert[i : i + 32] for advert in seen.server.adverts.values() for i in (0, 32)} for seen in (first, second)
    ]
    assert not used[0] & used[1]
    assert len(used[0] | used[1]) == 16


def test_an_input_that_comes_too_late_stays_masked_by_its_seed() -> None:
    """Office 0 was counted as dropped and its key revealed; then its input arrives: why there are seeds at all."""
    agreed, parts = terms(), inputs(terms())
    states = {k: secagg.advertise(agreed, k) for k in parts}
    server = secagg_server.gather(agreed, {k: state.advert for k, state in states.items()})
    dealt = {k: secagg.share(state, server.adverts) for k, state in states.items()}
    server, mail = secagg_server.route(server, {k: sealed for k, (_, sealed) in dealt.items()})
    masked = {k: secagg.mask(state, mail[k], parts[k]) for k, (state, _) in dealt.items()}
    for k in (1, 2, 3):
        server = collect(server, k, masked[k][1])
    replies = {k: secagg.reveal(masked[k][0], *secagg_server.request(server))[1] for k in (1, 2, 3)}
    key = shamir.combine({k + 1: reply[:SHARE_BYTES] for k, reply in replies.items()}, agreed.threshold)
    late, seed = masked[0][1], dealt[0][0].seed
    assert np.array_equal(stripped(late, agreed, server.adverts, 0, key, seed).values, parts[0].values)
    for wrong in (bytes(32), key):
        assert not np.array_equal(stripped(late, agreed, server.adverts, 0, key, wrong).values, parts[0].values)


# --- What an office refuses


def test_each_step_is_taken_once_and_in_its_order() -> None:
    agreed, parts = terms(), inputs(terms())
    advertised = {k: secagg.advertise(agreed, k) for k in parts}
    adverts = {k: state.advert for k, state in advertised.items()}
    dealt = {k: secagg.share(state, adverts) for k, state in advertised.items()}
    mail = {k: dealt[k][1][0] for k in (1, 2, 3)}
    masked, _ = secagg.mask(dealt[0][0], mail, parts[0])
    closed, _ = secagg.reveal(masked, [0, 1, 2, 3], [])
    assert isinstance(closed, Closed)

    def sharing(state: State) -> object:
        return secagg.share(state, adverts)

    def masking(state: State) -> object:
        return secagg.mask(state, mail, parts[0])

    def revealing(state: State) -> object:
        return secagg.reveal(state, [0, 1, 2], [3])

    steps = {sharing: advertised[0], masking: dealt[0][0], revealing: masked}
    for step, its_state in steps.items():
        for state in (advertised[0], dealt[0][0], masked, closed):
            if state is its_state:
                step(state)
                continue
            with pytest.raises(ProtectionError, match=f"round 1: office 0 is {type(state).__name__} and cannot"):
                step(state)


@pytest.mark.parametrize(
    ("answered", "dropped", "match"),
    [
        ([0, 1, 2, 3], [3], r"both secrets of offices \[3\]"),
        ([0, 1, 2], [], r"about offices \[0, 1, 2\]; those that shared are \[0, 1, 2, 3\]"),
        ([0, 1, 2, 3], [4], r"about offices \[0, 1, 2, 3, 4\]"),
        ([1, 2, 3], [0], "it has sent its input"),
        ([0, 1], [2, 3], "2 of 4 offices, .* at least 3 are needed"),
        ([], [0, 1, 2, 3], "it has sent its input"),
        ([], [], "about offices"),
    ],
)
def test_a_request_that_would_open_an_input_is_refused(answered: list[int], dropped: list[int], match: str) -> None:
    _, masked = until_masked(terms(), inputs(terms()))
    with pytest.raises(ProtectionError, match=match):
        secagg.reveal(masked[0], answered, dropped)


def test_a_request_about_an_office_that_has_shared_with_nobody_is_refused() -> None:
    """U2 was {0, 1, 2}: office 3 has advertised, but its shares never came."""
    agreed, parts = terms(), inputs(terms())
    states = {k: secagg.advertise(agreed, k) for k in parts}
    adverts = {k: state.advert for k, state in states.items()}
    shared, _ = secagg.share(states[0], adverts)
    masked, _ = secagg.mask(shared, {k: secagg.share(states[k], adverts)[1][0] for k in (1, 2)}, parts[0])
    with pytest.raises(ProtectionError, match=r"those that shared are \[0, 1, 2\]"):
        secagg.reveal(masked, [0, 1, 2], [3])


def test_changed_adverts_are_refused() -> None:
    agreed = terms()
    states = {k: secagg.advertise(agreed, k) for k in range(4)}
    adverts = {k: state.advert for k, state in states.items()}
    other = secagg.advertise(agreed, 1).advert
    attempts: list[tuple[dict[int, bytes], str]] = [
        (adverts | {0: other}, "other keys for office 0"),
        ({k: adverts[k] for k in (1, 2, 3)}, "other keys for office 0 than it has sent, or none"),
        (adverts | {1: adverts[2]}, "key of office 1|key of office 2"),
        (adverts | {1: other[:32] * 2}, "office 1 advertises a key of office 1"),
        (adverts | {1: other[:63]}, "64 bytes; office 1 sent 63"),
        (adverts | {1: bytes(32) + other[32:]}, "public key of office 1 is not one"),
        ({k: adverts[k] for k in (0, 1)}, r"adverts: 2 of 4 offices, \[0, 1\]"),
        (adverts | {4: other}, "more than were asked"),
    ]
    for found, match in attempts:
        with pytest.raises(ProtectionError, match=match):
            secagg.share(states[0], found)


def test_a_masking_key_of_low_order_is_refused_before_anything_is_sent() -> None:
    agreed = terms()
    states = {k: secagg.advertise(agreed, k) for k in range(4)}
    adverts = {k: state.advert for k, state in states.items()}
    adverts[1] = adverts[1][:32] + bytes(32)
    shared, _ = secagg.share(states[0], adverts)
    mail = {k: secagg.share(states[k], adverts)[1][0] for k in (2, 3)}
    secagg.mask(shared, mail, inputs(agreed)[0])  # without office 1 there is no pair with it
    sealed = secagg.share(dataclasses.replace(states[1], advert=adverts[1]), adverts)[1][0]
    with pytest.raises(ProtectionError, match="public key of office 1 is not one"):
        secagg.mask(shared, mail | {1: sealed}, inputs(agreed)[0])


def test_a_server_that_swaps_keys_is_found() -> None:
    """A swapped share key: the shares do not open. A swapped mask key: the check slot is wrong."""
    agreed, parts = terms(), inputs(terms())
    for half in (0, 1):
        states = {k: secagg.advertise(agreed, k) for k in parts}
        adverts = {k: state.advert for k, state in states.items()}
        forged = secagg.advertise(agreed, 9).advert
        told = adverts[1][:32] + forged[32:] if half else forged[:32] + adverts[1][32:]
        dealt = {k: secagg.share(states[k], adverts | {1: told} if k == 0 else adverts) for k in parts}
        server, mail = secagg_server.route(secagg_server.gather(agreed, adverts), {k: d[1] for k, d in dealt.items()})
        if half == 0:
            for k, sender in ((0, 1), (1, 0)):
                with pytest.raises(ProtectionError, match=rf"do not open.* {sender}, {k}\)"):
                    secagg.mask(dealt[k][0], mail[k], parts[k])
            continue
        masked = {k: secagg.mask(dealt[k][0], mail[k], parts[k]) for k in parts}
        for k in parts:
            server = collect(server, k, masked[k][1])
        total = secagg_server.recover(server, {k: secagg.reveal(masked[k][0], range(4), [])[1] for k in parts})
        with pytest.raises(ProtectionError, match="must not be used"):
            check_tags(total.check, SECRET, "run", 1, range(4), 4)


def test_changed_shares_are_refused() -> None:
    agreed, parts = terms(), inputs(terms())

    def sharing(round_terms: Terms) -> dict[int, tuple[Shared, dict[int, bytes]]]:
        states = {k: secagg.advertise(round_terms, k) for k in parts}
        adverts = {k: state.advert for k, state in states.items()}
        return {k: secagg.share(state, adverts) for k, state in states.items()}

    dealt, earlier = sharing(agreed), sharing(agreed)
    mail = {k: dealt[k][1][0] for k in (1, 2, 3)}
    attempts: list[tuple[dict[int, bytes], str]] = [
        (mail | {1: mail[1][:-1] + bytes([mail[1][-1] ^ 1])}, "do not open"),
        (mail | {1: mail[1][:-1]}, "do not open"),
        (mail | {1: mail[2], 2: mail[1]}, "do not open"),
        (mail | {1: dealt[0][1][1]}, "do not open"),  # its own share, sent back: same key, other direction
        (mail | {1: earlier[1][1][0]}, "do not open"),  # of another attempt
        (mail | {0: mail[1]}, r"shares of \[0\], whom it sent none"),
        ({k: mail[k] for k in (1,)}, "masked input: 2 of 4"),
        ({1: mail[1], 2: mail[2], 7: mail[3]}, r"shares of \[7\]"),
    ]
    for found, match in attempts:
        with pytest.raises(ProtectionError, match=match):
            secagg.mask(dealt[0][0], found, parts[0])
    secagg.mask(dealt[0][0], mail, parts[0])


@pytest.mark.parametrize("change", [{"bits": 13}, {"values": np.zeros(4, np.uint32)}])
def test_slots_of_another_form_are_refused(change: dict) -> None:
    agreed, parts = terms(), inputs(terms())
    other = dataclasses.replace(parts[0], **change)
    states = {k: secagg.advertise(agreed, k) for k in parts}
    adverts = {k: state.advert for k, state in states.items()}
    shared, _ = secagg.share(states[0], adverts)
    mail = {k: secagg.share(states[k], adverts)[1][0] for k in (1, 2, 3)}
    with pytest.raises(ProtectionError, match="sums 5 slots of 12 bits"):
        secagg.mask(shared, mail, other)


# --- What the server refuses


def test_the_server_refuses_what_one_office_sent_wrongly_and_names_it() -> None:
    agreed = terms()
    states = {k: secagg.advertise(agreed, k) for k in (0, 1, 2)}
    server = secagg_server.gather(agreed, {k: state.advert for k, state in states.items()})
    dealt = {k: secagg.share(state, server.adverts)[1] for k, state in states.items()}
    wrong = [
        (dealt | {1: {0: dealt[1][0]}}, r"office 1 has to send 94 bytes to each of \[0, 2\]"),
        (dealt | {1: dealt[1] | {2: b"short"}}, r"office 1 has to send 94 bytes.*2: 5"),
        (dealt | {3: dealt[1]}, "office 3 shares, but has not advertised"),
    ]
    for sealed, match in wrong:
        with pytest.raises(ProtectionError, match=match):
            secagg_server.route(server, sealed)


def test_the_server_refuses_wrong_replies() -> None:
    agreed = terms(offices=5)
    parts = inputs(agreed)
    server, masked = until_masked(agreed, parts)
    replies = {k: secagg.reveal(state, *secagg_server.request(server))[1] for k, state in masked.items()}
    total = secagg_server.recover(server, {k: replies[k] for k in (1, 2, 3, 4)})
    assert total.values.tolist() == plain_sum(parts, parts, BITS)
    with pytest.raises(ProtectionError, match="office 1 has to reveal 5 shares of 33 bytes; found 164"):
        secagg_server.recover(server, replies | {1: replies[1][:-1]})
    bent = replies[1][:32] + bytes([replies[1][32] ^ 1]) + replies[1][33:]
    with pytest.raises(ProtectionError, match=r"round 1: a secret of office 0 cannot be rebuilt.*not of one secret"):
        secagg_server.recover(server, replies | {1: bent})
    without = dataclasses.replace(server, answered=server.answered - {4})
    with pytest.raises(ProtectionError, match="office 4 reveals shares, but was not asked"):
        secagg_server.recover(without, replies)
    with pytest.raises(ProtectionError, match="masked input: 0 of 5"):
        secagg_server.recover(dataclasses.replace(server, answered=frozenset()), replies)


def test_a_changed_share_among_just_enough_is_found() -> None:
    """Of a key by the advert, of a seed by the check slot (or because it gives no 32 bytes)."""
    agreed, parts = terms(), inputs(terms())
    seen = play(agreed, parts, {0: 2})

    def bent(owner: int) -> dict[int, bytes]:
        at = owner * SHARE_BYTES + 20
        return seen.replies | {1: seen.replies[1][:at] + bytes([seen.replies[1][at] ^ 1]) + seen.replies[1][at + 1 :]}

    with pytest.raises(ProtectionError, match=r"revealed key of office 0 is not the advertised one|no 32 bytes"):
        secagg_server.recover(seen.server, bent(0))
    with pytest.raises(ProtectionError, match=r"must not be used|no 32 bytes"):
        check_tags(secagg_server.recover(seen.server, bent(2)).check, SECRET, "run", 1, [1, 2, 3], 4)


# --- What an office keeps


def every_state() -> list[State]:
    agreed, parts = terms(), inputs(terms())
    states = {k: secagg.advertise(agreed, k) for k in parts}
    adverts = {k: state.advert for k, state in states.items()}
    dealt = {k: secagg.share(state, adverts) for k, state in states.items()}
    masked, _ = secagg.mask(dealt[2][0], {k: dealt[k][1][2] for k in (0, 1, 3)}, parts[2])
    closed, _ = secagg.reveal(masked, [0, 1, 2, 3], [])
    return [states[2], dealt[2][0], masked, closed]


def test_a_state_survives_its_file_and_erases_the_one_before() -> None:
    memory: dict[str, NDArray[np.uint8]] = {"accountant": np.zeros(3, np.uint8)}
    for state in every_state():
        arrays = to_memory(state)
        assert all(array.dtype == np.uint8 and array.ndim == 1 for array in arrays.values())
        memory |= arrays
        assert len(memory) == 1 + 2
        assert from_memory(memory, state.terms, state.office) == state


def test_a_state_holds_no_secret_longer_than_it_needs() -> None:
    advertised, shared, masked, closed = every_state()
    files = [b"".join(array.tobytes() for array in to_memory(s).values()) for s in (advertised, shared, masked, closed)]
    found = {
        name: [secret in file for file in files]
        for name, secret in {
            "share_private": advertised.share_private,
            "mask_private": advertised.mask_private,
            "seed": shared.seed,
            "share": masked.shares[1],
        }.items()
    }
    assert found == {
        "share_private": [True, False, False, False],
        "mask_private": [True, True, False, False],
        "seed": [False, True, False, False],
        "share": [False, False, True, False],
    }


def test_no_secret_shows_in_a_log() -> None:
    for state in every_state():
        hidden = [f.name for f in dataclasses.fields(state) if not f.repr]
        assert set(hidden) >= {"mask_private", "shares", "seed"} & {f.name for f in dataclasses.fields(state)}
        text = repr(state)
        for name in hidden:
            value = getattr(state, name)
            for secret in value.values() if isinstance(value, dict) else [value]:
                assert repr(secret)[2:-1] not in text


def test_a_state_of_another_round_or_office_is_refused() -> None:
    state = every_state()[2]
    memory = to_memory(state)
    for agreed, office in [
        (terms(round_=2), 2),
        (terms(bits=13), 2),
        (terms(count=6), 2),
        (terms(offices=5), 2),
        (dataclasses.replace(terms(), run="nur"), 2),
        (terms(), 1),
    ]:
        with pytest.raises(ProtectionError, match="has to advertise"):
            from_memory(memory, agreed, office)
    with pytest.raises(ProtectionError, match="no state of secagg"):
        from_memory({}, terms(), 2)
    with pytest.raises(ProtectionError, match="in no phase"):
        from_memory(memory | {"secagg.phase": np.frombuffer(b"Opened", np.uint8)}, terms(), 2)


def test_the_next_rounds_adverts_close_this_round_for_good() -> None:
    """They ride on the reply, before round 2 has begun; a second request of round 1 then finds no state."""
    agreed, following = terms(round_=1), terms(round_=2)
    seen = play(agreed, inputs(agreed))
    early = {k: secagg.advertise(following, k) for k in range(4)}
    memory = to_memory(seen.states[0]) | to_memory(early[0])
    with pytest.raises(ProtectionError, match="is not one of"):
        from_memory(memory, agreed, 0)
    restored = from_memory(memory, following, 0)
    shared, sealed = secagg.share(restored, {k: state.advert for k, state in early.items()})
    assert shared.terms.round == 2
    assert sealed.keys() == {1, 2, 3}
