"""The record: its spellings, its way to JSON and back, and what is said of a file that is not one."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from results import ResultsError
from results.record import SCHEMA, RunRecord, decode, decode_fields, encode, glance
from tests.results.builder import record

ROUND = "round test_accuracy test_loss test_macro_f1 validation_accuracy train_loss"
FINAL = (
    "score test_accuracy test_macro_f1 test_f1_per_class test_correct_by_person mean_office_accuracy "
    "weighted_office_accuracy worst_office_accuracy validation_score "
    "mean_personal_accuracy worst_personal_accuracy"
)
OFFICE = (
    "name num_examples class_counts num_persons entropy js_distance validation_accuracy bytes_up bytes_down "
    "rejected dropped personal_accuracy"
)
PARTITION = "hash gini gini_normalised entropy js_distance information moved moved_share marked label_skewed"
COST = (
    "train_s aggregate_s evaluate_s encrypt_s add_s decrypt_s keygen_s critical_s wall_s cpu_s bytes_up bytes_down "
    "encrypted_share clipped crypto_processes"
)
ENVIRONMENT = "versions machine cpu_path commit sources_hash data_hash"


def test_json_has_exactly_the_agreed_spellings() -> None:
    written = json.loads(encode(record()))
    assert set(written["rounds"][0]) == set(ROUND.split())
    assert set(written["final"]) == set(FINAL.split())
    assert set(written["offices"][0]) == set(OFFICE.split())
    assert set(written["partition"]) == set(PARTITION.split())
    assert set(written["cost"]) == set(COST.split())
    assert set(written["environment"]) == set(ENVIRONMENT.split())
    assert set(written["data"]) == {"name", "title", "form", "classes", "hash", "notes"}
    assert written["schema"] == SCHEMA
    assert {"run_id", "engine", "status", "error", "spec", "privacy", "filtered"} < set(written)


@pytest.mark.parametrize("status", ["ok", "diverged", "failed"])
def test_a_record_comes_back_as_it_went(status: str) -> None:
    before = record(status=status, validation=0.0)
    assert decode(encode(before)) == before
    assert encode(decode(encode(before))) == encode(before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf")])
def test_what_is_not_finite_is_null(value: float) -> None:
    fields = json.loads(encode(record()))
    fields["final"]["test_macro_f1"] = value
    fields["spec"]["client_lr"] = value
    made = decode_fields(fields)
    assert made.final is not None
    assert made.final.test_macro_f1 is None
    assert made.spec["client_lr"] is None
    assert b"NaN" not in encode(made)
    assert b"Infinity" not in encode(made)


def test_a_nan_set_on_a_record_is_null_in_its_json() -> None:
    made = record()
    assert made.final is not None
    odd = msgspec.structs.replace(made, final=msgspec.structs.replace(made.final, score=float("nan")))
    assert json.loads(encode(odd))["final"]["score"] is None


def test_numpy_numbers_and_arrays_are_taken() -> None:
    fields = json.loads(encode(record()))
    fields["offices"][0] |= {"num_examples": np.int64(7), "class_counts": np.array([3, 4]), "entropy": np.float32(0.5)}
    fields["filtered"] = np.bool_(True)
    made = decode_fields(fields)
    assert made.offices[0].class_counts == (3, 4)
    assert made.offices[0].entropy == 0.5
    assert made.filtered is True


def test_fields_of_a_later_version_are_ignored() -> None:
    fields = json.loads(encode(record())) | {"colour": "red"}
    fields["final"]["calibration"] = 0.1
    assert decode_fields(fields) == record()


def test_a_record_without_later_fields_is_read_with_their_defaults() -> None:
    fields = json.loads(encode(record()))
    for name in ("strategy_options", "privacy", "protection", "filtered"):
        del fields[name]
    made = decode(json.dumps(fields).encode())
    assert (made.strategy_options, made.privacy, made.protection, made.filtered) == ({}, None, None, False)


def test_another_schema_version_is_named_with_its_file() -> None:
    text = encode(record()).replace(b'{"schema":1', b'{"schema":2', 1)
    with pytest.raises(ResultsError, match=r"a/b\.json: record of schema version 2, expected 1: written by newer code"):
        decode(text, "a/b.json")
    # Even where the newer layout would not fit this one.
    with pytest.raises(ResultsError, match="schema version 3"):
        decode(b'{"schema":3,"runs":[]}', "a/b.json")


@pytest.mark.parametrize("cut", [0, 1, 200, -2])
def test_a_cut_off_file_is_named(cut: int) -> None:
    text = encode(record())[:cut]
    with pytest.raises(ResultsError, match=r"x\.json: not a whole run record .* remove the file"):
        decode(text, "x.json")
    with pytest.raises(ResultsError, match=r"x\.json: not a whole run record"):
        glance(text, "x.json")


def test_a_wrong_type_is_named_with_its_place() -> None:
    fields = json.loads(encode(record()))
    fields["rounds"][2]["test_accuracy"] = "high"
    with pytest.raises(
        ResultsError, match=r"Expected `float \| null`, got `str` - at `\$\.rounds\[2\]\.test_accuracy`"
    ):
        decode_fields(fields)


def test_a_glance_agrees_with_the_record() -> None:
    made = record(status="diverged", sources_hash="abc")
    seen = glance(encode(made))
    assert (seen.key, seen.status, seen.sources_hash, seen.spec) == (made.key, "diverged", "abc", made.spec)
    assert seen.score is None
    scored = record()
    assert scored.final is not None
    assert glance(encode(scored)).score == scored.final.score


def test_a_record_is_frozen() -> None:
    made: RunRecord = record()
    with pytest.raises(AttributeError):
        made.status = "failed"  # type: ignore[misc]
