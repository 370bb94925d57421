"""The sources' hash: what makes a result stale and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import provenance
from experiments.run import sources
from experiments.spec import RunSpec


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in provenance.ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
    (tmp_path / "experiments" / "a.py").write_text(
        '"""Doc."""\nfrom experiments import b\n\n\ndef f():\n    """Doc."""\n    return 1  # why\n'
    )
    (tmp_path / "experiments" / "b.py").write_text("def g():\n    from strategies.c import x\n    return x\n")
    (tmp_path / "strategies" / "c.py").write_text("x = 1\n")
    (tmp_path / "strategies" / "d.py").write_text("y = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def digest() -> str:
    for function in (provenance._hash_of_ours, provenance._imports, provenance._code):
        function.cache_clear()
    return provenance.sources_hash(frozenset({"experiments.a"}))


def test_closure_follows_imports_inside_functions(checkout: Path) -> None:
    assert provenance.closure({"experiments.a"}) == {
        "experiments",
        "experiments.a",
        "experiments.b",
        "strategies",
        "strategies.c",
    }


def test_comments_and_docstrings_do_not_count(checkout: Path) -> None:
    before = digest()
    path = checkout / "experiments" / "a.py"
    path.write_text(path.read_text().replace("Doc.", "Other.").replace("# why", "# because"))
    assert digest() == before


@pytest.mark.parametrize(
    ("room", "file", "counts"), [("strategies", "c", True), ("experiments", "b", True), ("strategies", "d", False)]
)
def test_code_counts_where_it_is_imported(checkout: Path, room: str, file: str, counts: bool) -> None:
    before = digest()
    path = checkout / room / f"{file}.py"
    path.write_text(path.read_text().replace("x", "z").replace("y = 1", "y = 2"))
    (checkout / "strategies" / "c.py").write_text((checkout / "strategies" / "c.py").read_text())
    assert (digest() != before) == counts


def test_a_run_is_not_stale_for_another_strategys_sake() -> None:
    modules = provenance.closure({"experiments.run", "strategies.fedprox", "partitions.iid"})
    assert {"experiments.federation", "experiments.training.local", "strategies.fedavg", "partitions.deal"} <= modules
    assert not {"strategies.local", "strategies.centralised", "partitions.shards", "experiments.sweep"} & modules


def test_nested_strategies_count() -> None:
    plain = RunSpec.from_options({"strategy": "flower(path=flwr.serverapp.strategy.FedAvg)"})
    nested = RunSpec.from_options(
        {
            "strategy": "flower(path=flwr.serverapp.strategy.DifferentialPrivacyServerSideFixedClipping, "
            "strategy=fedprox(), noise_multiplier=1, clipping_norm=1, num_sampled_clients=4)"
        }
    )
    assert sources(plain, "inprocess") != sources(nested, "inprocess")
    assert sources(plain, "inprocess") != sources(plain, "simulation")


def test_what_a_record_says_of_its_making() -> None:
    assert {"python", "numpy", "torch", "flwr", "ray"} <= set(provenance.versions())
    assert "MKL_CBWR" in provenance.cpu_path()
    assert provenance.machine()
