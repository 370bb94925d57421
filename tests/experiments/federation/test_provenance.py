"""The sources' hash: what makes a result stale and what does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.config.spec import RunSpec
from experiments.federation import provenance
from experiments.federation.run import run, sources
from experiments.sweep.plan import plan
from results.store import Store
from tests.experiments.problems import problem


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
    modules = provenance.closure({"experiments.federation.run", "strategies.fedprox", "partitions.iid"})
    assert {
        "experiments.federation.rounds",
        "experiments.training.reference",
        "strategies.fedavg",
        "partitions.deal",
    } <= modules
    assert (
        not {"strategies.local", "strategies.centralised", "partitions.shards", "experiments.sweep.workers"} & modules
    )


PRIVATE_OR_MEASURED = (
    "strategies.privacy",
    "strategies.protection",
    "strategies.crypto",
    "experiments.federation.audit",
    "experiments.bench",
    "experiments.training.private",
    "experiments.training.kernels.ghost",
)


def covered(monkeypatch: pytest.MonkeyPatch, **options: object) -> set[str]:
    """Modules of ours that a run's hash covers."""
    asked: list[set[str]] = []

    def noted(modules: frozenset[str], *_: object) -> str:
        asked.append(provenance.closure(modules))
        return ""

    with monkeypatch.context() as patched:
        patched.setattr(provenance, "sources_hash", noted)
        sources(RunSpec.from_options(options), "inprocess")
    return asked[0]


@pytest.mark.parametrize("dataset", ["uci_har", "watch", "table(label=y)"])
def test_a_plain_run_stands_on_no_code_of_privacy_protection_audit_or_bench(
    monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    modules = covered(monkeypatch, strategy="fedavg", dataset=dataset)
    assert {"experiments.federation.rounds", "experiments.training.kernels.fused", "strategies.fedavg"} <= modules
    assert not {name for name in modules if name.startswith(PRIVATE_OR_MEASURED)}


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({"strategy": "dp_sgd(epsilon=8)"}, {"experiments.training.private", "experiments.training.kernels.ghost"}),
        ({"strategy": "dp_fedavg(noise_multiplier=1)"}, {"strategies.privacy.plan", "strategies.privacy.report"}),
        ({"strategy": "paillier"}, {"strategies.protection.plan", "strategies.protection.office"}),
        ({"strategy": "fedavg", "audit": True}, {"experiments.federation.audit"}),
    ],
)
def test_a_run_that_needs_such_code_covers_it(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], needs: set[str]
) -> None:
    assert needs <= covered(monkeypatch, **options)


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


MINE = """
import numpy as np
from flwr.serverapp.strategy import FedAvg
from {package} import helper


class Mine(FedAvg):
    scale = helper.SCALE
"""


@pytest.fixture(params=["flat", "package"])
def mine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The import path of a Flower strategy of a user's, and the folder of its module and of what that imports."""
    monkeypatch.syspath_prepend(tmp_path)
    if request.param == "flat":
        folder, module = tmp_path, "mine_of_a_test"
        text = MINE.replace("from {package} import helper", "import helper_of_a_test as helper")
        helper = folder / "helper_of_a_test.py"
    else:
        folder, module = tmp_path / "package_of_a_test", "package_of_a_test.rules"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        text, helper = MINE.format(package="."), folder / "helper.py"
    (folder / f"{module.rpartition('.')[2]}.py").write_text(text)
    helper.write_text("SCALE = 1.0\n")
    for name in [name for name in sys.modules if "of_a_test" in name]:
        monkeypatch.delitem(sys.modules, name)
    return f"{module}.Mine", folder


def hash_of(path: str) -> str:
    return sources(RunSpec.from_options({"strategy": f"flower(path={path})"}), "inprocess")


def test_a_strategy_of_the_users_own_is_covered_with_what_it_imports(mine: tuple[str, Path]) -> None:
    path, folder = mine
    first = hash_of(path)
    assert hash_of(path) == first
    changed = []
    for file in sorted(folder.glob("*.py")):
        text = file.read_text()
        file.write_text(text + "\nADDED = 1\n")
        changed.append(hash_of(path))
        file.write_text("# A comment does not count.\n" + text)
        assert hash_of(path) == first
        file.write_text(text)
    assert len({first, *changed}) == 1 + len(changed) >= 3


def test_files_of_the_users_are_found_without_importing_them(mine: tuple[str, Path]) -> None:
    path, folder = mine
    assert provenance.own_files([path.rpartition(".")[0]]) == set(folder.glob("*.py"))
    assert not [name for name in sys.modules if "of_a_test" in name]


def test_installed_modules_are_known_by_their_version_alone() -> None:
    assert provenance.own_files(["flwr.serverapp.strategy", "json", "sys", "strategies.fedavg", "no.such"]) == set()


def test_what_a_users_strategy_takes_of_ours_counts(mine: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = mine
    module = folder / f"{path.split('.')[-2]}.py"
    module.write_text("from strategies.krum import Krum\n" + module.read_text())
    first = hash_of(path)
    original = provenance._code
    monkeypatch.setattr(provenance, "_code", lambda file: "changed" if file.name == "krum.py" else original(file))
    provenance._hash_of_ours.cache_clear()
    try:
        assert hash_of(path) != first
    finally:
        provenance._hash_of_ours.cache_clear()


def test_a_run_of_an_edited_strategy_is_stale(mine: tuple[str, Path], tmp_path: Path) -> None:
    path, folder = mine
    spec, data = problem(strategy=f"flower(path={path})", rounds=1)
    store = Store(tmp_path / "results")
    store.put(run(spec, data))
    assert plan([spec], store, "inprocess").stale == []
    helper = next(folder.glob("helper*.py"))
    helper.write_text("SCALE = 2.0\n")
    assert plan([spec], store, "inprocess").stale == [spec]


def test_an_audited_run_is_not_held_to_the_hash_of_a_plain_one(tmp_path: Path) -> None:
    plain, data = problem(strategy="dp_sgd(epsilon=8)", rounds=1)
    audited, _ = problem(strategy="dp_sgd(epsilon=8)", rounds=1, audit=True)
    store = Store(tmp_path / "results")
    for spec in (plain, audited):
        store.put(run(spec, data))
    assert plan([plain, audited], store, "inprocess").stale == []
