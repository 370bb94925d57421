"""Privacy and protection in a record: the keys that records hold, and what null and missing say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from results import ResultsError
from results.compact import table
from results.frame import frames
from results.record import decode, decode_fields, encode
from results.sections import Privacy, Protection, given
from tests.results.builder import record

OFFICE = {"epsilon": 7.9, "epsilon_rdp": None, "noise_multiplier": 0.7, "sampling_rate": 0.25, "steps": 5, "units": 90}
GROUP = {"windows": 3, "epsilon": None, "delta": 1e-5, "accountant": "prv"}
CLAIM = {
    "inner": "fedavg",
    "target_epsilon": None,
    "epsilon": None,
    "epsilon_rdp": None,
    "delta": 1e-5,
    "accountant": "prv",
    "orders": "2..64",
    "relation": "add or remove one",
    "noise_source": "reproducible",
    "clip_norm": None,
}
STEPS = CLAIM | {
    "mechanism": "dp_sgd",
    "unit": "window",
    "units": 360,
    "simulated_units": None,
    "observer": "server, other offices, reader of the model",
    "noise": "own",
    "sampling": "poisson",
    "public": ["rows of each office"],
    "offices": [OFFICE, OFFICE],
    "group_person": GROUP,
    "group_signal": GROUP,
}
SUMS = CLAIM | {
    "mechanism": "dp_fedavg",
    "unit": "office",
    "units": 4,
    "observer": "other offices, reader of the model",
    "noise": "server",
    "sampling": "fixed",
    "public": [],
    "noise_multiplier": 0.5,
    "sampling_rate": 1.0,
    "steps": 25,
}
AUDIT = {
    "unit": "window",
    "canaries": 100,
    "included": 49,
    "guesses": 50,
    "right": 28,
    "auc": None,
    "tpr_at_1pct": None,
    "lower_bound": 0.42,
    "ceiling": 2.3,
    "confidence": 0.95,
    "delta": 1e-5,
    "caveat": "one run refutes little",
}
PRIVACY: dict[str, dict[str, Any]] = {
    "steps": STEPS,
    "steps under shares": STEPS | {"epsilon_integers": None},
    "sums": SUMS,
    "sums over steps": SUMS | {"local": STEPS},
    "audited": STEPS | {"audit": AUDIT},
    "audited without a promise": {
        "epsilon": None,
        "delta": 1e-5,
        "mechanism": "none",
        "unit": "window",
        "audit": AUDIT,
    },
    "older": {name: STEPS[name] for name in ("epsilon", "delta", "mechanism", "unit", "units", "public")},
}
PROTECTION: dict[str, dict[str, Any]] = {
    "measured": {
        "protocol": "paillier",
        "assumption": "decisional composite residuosity",
        "sees": {"server": "nothing of updates, sums, model"},
        "bits": 16,
        "rounding": "nearest",
        "clip": "auto",
        "min_offices": 3,
        "rounds": 25,
        "measured_rounds": 1,
        "measured_bytes_up": 123,
        "measured_bytes_down": 45,
        "clipped_share": 0.0,
        "error": 1e-5,
        "error_bound": 2e-5,
        "naive_encrypt_s": 300.5,
        "naive_decrypt_s": 90.25,
        "naive_sample": 100,
    }
}
PROTECTION["in clear"] = {
    **{name: value for name, value in PROTECTION["measured"].items() if not name.startswith("naive")},
    **{"clip": 0.5, "measured_rounds": 0, "clipped_share": None, "error": None, "error_bound": None},
}
PROTECTION["older"] = {"protocol": "secagg", "bits": 12, "rounding": "feedback", "measured_rounds": 0}


@pytest.mark.parametrize("name", PRIVACY)
def test_a_promise_goes_back_to_json_with_the_keys_it_came_with(name: str) -> None:
    assert roundtrip("privacy", PRIVACY[name]) == PRIVACY[name]


@pytest.mark.parametrize("name", PROTECTION)
def test_protection_goes_back_to_json_with_the_keys_it_came_with(name: str) -> None:
    assert roundtrip("protection", PROTECTION[name]) == PROTECTION[name]


def roundtrip(section: str, found: dict[str, Any]) -> Any:
    """A section as it stands in the file of a stored record that was read and written again."""
    stored = json.loads(encode(record())) | {section: found}
    text = json.dumps(stored).encode()
    assert encode(decode(encode(decode(text)))) == encode(decode(text))
    return json.loads(encode(decode(text)))[section]


def test_no_key_of_a_section_is_without_a_record_that_holds_it() -> None:
    for section, held in ((Privacy, PRIVACY), (Protection, PROTECTION)):
        known = {name for found in held.values() for name in found}
        assert known == {field.encode_name for field in msgspec.structs.fields(section)}


def test_null_and_missing_are_told_apart() -> None:
    infinite, unknown = (msgspec.convert(PRIVACY[name], Privacy) for name in ("steps", "older"))
    assert infinite.epsilon_rdp is None
    assert unknown.epsilon_rdp is msgspec.UNSET
    assert given(unknown.epsilon_rdp) is given(infinite.epsilon_rdp) is None


def test_a_value_that_is_not_finite_is_null() -> None:
    fields = json.loads(encode(record())) | {"privacy": STEPS | {"epsilon": float("inf")}}
    made = decode_fields(fields)
    assert made.privacy is not None
    assert made.privacy.epsilon is None


def test_a_wrong_value_is_told() -> None:
    fields = json.loads(encode(record())) | {"protection": PROTECTION["older"] | {"bits": "many"}}
    with pytest.raises(ResultsError, match=r"protection.bits"):
        decode_fields(fields)


def test_the_table_of_all_runs_holds_null_and_missing_apart() -> None:
    stored = json.loads(encode(record()))
    made = [
        decode_fields(stored | {"run_id": name, "privacy": found, "protection": PROTECTION["older"]})
        for name, found in PRIVACY.items()
    ]
    texts = dict(zip(*(table(made)[name].to_pylist() for name in ("run_id", "privacy")), strict=True))
    assert {name: json.loads(text) for name, text in texts.items()} == PRIVACY
    assert len(frames(made).privacy) == len(PRIVACY) + 1, "sums over steps are two promises"
