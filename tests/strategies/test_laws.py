"""Laws of every registered strategy. A strategy added as one file is tested here without a line more."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import Strategy as FlowerStrategy

from experiments.config.notation import build, canonical, parse
from experiments.config.spec import STRATEGIES, RunSpec
from experiments.engines import flower, inprocess
from experiments.federation.clients import jobs_of
from experiments.federation.run import deal_rows, run, set_up
from experiments.tuning.search import SHARED
from strategies.base import Federation, Strategy, StrategyError
from strategies.protection.layout import change_of
from strategies.protection.meter import total
from tests.experiments.problems import problem
from tests.strategies.least_squares import federate

EXAMPLES = [text for cls in STRATEGIES.values() for text in cls.examples]
every_example = pytest.mark.parametrize("text", EXAMPLES)
every_class = pytest.mark.parametrize("cls", STRATEGIES.values(), ids=list(STRATEGIES))


@every_class
def test_a_strategy_is_a_frozen_dataclass_that_shows_itself(cls: type[Strategy]) -> None:
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert cls.examples, "the law tests need an example"
    assert cls.__doc__
    assert sys.modules[cls.__module__].__doc__, "the file opens with its idea"


@every_class
def test_it_declares_what_it_may_be_combined_with(cls: type[Strategy]) -> None:
    assert all(isinstance(build(parse(text), STRATEGIES, "strategy").linear, bool) for text in cls.examples)
    assert cls.dp == "after_noise" or cls.dp.startswith("refused: ")
    assert len(cls.dp) > 10


@every_example
def test_it_reads_back_from_its_text(text: str) -> None:
    ours = build(parse(text), STRATEGIES, "strategy")
    assert build(parse(canonical(ours)), STRATEGIES, "strategy") == ours
    assert hash(ours) == hash(build(parse(text), STRATEGIES, "strategy"))


@every_example
def test_its_server_is_a_flower_strategy(text: str) -> None:
    flower.quiet()
    spec, data = problem(strategy=text)
    server = set_up(spec, data, deal_rows(spec, data)).server
    assert isinstance(server.strategy(), FlowerStrategy)


@every_example
def test_at_most_two_hyper_parameters_are_tuned(text: str) -> None:
    ours = build(parse(text), STRATEGIES, "strategy")
    space = ours.search_space()
    assert len(set(space) - set(SHARED)) <= 2
    own = {field.name for field in dataclasses.fields(ours)}
    assert set(space) <= own | set(SHARED), "its own, or one of all strategies that it narrows"


@every_example
def test_it_runs_and_learns(text: str) -> None:
    record = run(*problem(strategy=text, rounds=5))
    assert record.status == "ok"
    assert not record.filtered
    assert record.final.test_accuracy > 0.4, "better than chance, a third"


@every_example
def test_its_result_does_not_depend_on_what_ran_before(text: str) -> None:
    first = run(*problem(strategy=text))
    run(*problem(strategy="fedavg", seed=9))
    again = run(*problem(strategy=text))
    assert (first.rounds, first.final) == (again.rounds, again.final)


@every_example
def test_a_federation_of_one_does_not_hang(text: str) -> None:
    """It runs; under protection, where a sum of one is an update, it is refused."""
    spec, data = problem(strategy=text, clients=1)
    if spec.strategy.protected:
        with pytest.raises(StrategyError, match="at least 3 offices in a round; 1 of 1 take part"):
            run(spec, data)
    else:
        assert run(spec, data).status == "ok"


@every_example
def test_linear_means_lie_within_what_was_sent(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a linear rule's server is given is a convex combination of what offices sent, by name, in every coordinate;
    under protection, to the grid's error."""
    spec, data = problem(strategy=text, rounds=1)
    rule = getattr(spec.strategy, "inner", spec.strategy)
    if not rule.linear or spec.strategy.central_dp:  # a clipped and noised mean is inside of nothing
        return
    sides = set_up(spec, data, deal_rows(spec, data))
    given: dict[str, Any] = {}
    step = type(rule).server_step

    def noting(self: Any, x: Any, mean: Any, state: Any, round: Any) -> Any:
        given.update(mean)
        return step(self, x, mean, state, round)

    monkeypatch.setattr(type(rule), "server_step", noting)
    outcome = inprocess.run(sides.server, sides.clients, 4)
    ours, first, clients = sides.clients.prepared.strategy, sides.first(), sides.clients
    named = {"w": first, **ours.broadcast(ours.start(first, Federation(4, 4)))}
    jobs = [jobs_of(ours, clients.received(named, 1, office), {}) for office in range(4)]
    sent = []
    for office, own in enumerate(jobs):
        one, *others = clients.start().trainer.train(own, [office] * len(own))
        found, _ = ours.close(dataclasses.replace(one, others=tuple(others)), {})
        sent.append({**found, "w": change_of(found, first)})
    slack = 2e-6 + total(outcome.meters).get("error_bound", 0.0)
    assert set(given) == set(sent[0])
    for name, mean in given.items():
        values = np.stack([one[name] for one in sent])
        large = slack * max(1.0, float(np.abs(values).max()))
        assert np.all(mean <= values.max(0) + large), name
        assert np.all(mean >= values.min(0) - large), name
        assert large < np.ptp(values, axis=0).max() or not np.ptp(values), name


@every_example
def test_float64_stays_float64(text: str) -> None:
    """The server's arithmetic does not lower (or raise) the precision of what it is sent.

    Under protection nobody sends the model; offices compute in float64 what they round to the model's float32.
    """
    text = text.replace("krum(f=1)", "krum(f=0)")  # the problem has three offices
    ours = RunSpec.from_options({"strategy": text}).strategy
    if not ours.protected:
        assert federate(text, rounds=1)[0].dtype == np.float64
        return
    fine = federate(canonical(dataclasses.replace(ours, bits=32, rounding="nearest")), rounds=2)[0]
    assert fine.dtype == np.float32
    np.testing.assert_allclose(fine, federate(canonical(ours.inner), rounds=2)[0], rtol=2e-6)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fedprox(mu=-0.1)", "mu must be at least 0; found -0.1"),
        ("fedavg(weighting=sizes)", "weighting must be one of uniform, examples, batches; found 'sizes'"),
        ("centralised(steps=two)", "steps must be one of all, one; found 'two'"),
        ("flower(path=flwr.serverapp.strategy.FedAvgg)", "cannot import"),
        ("flower(path=flwr.app.Message)", "is not a flwr.serverapp.strategy.Strategy"),
        ("flower(path=flwr.serverapp.strategy.FedAvg, betta=1)", "has no argument 'betta'"),
        ("flower(path=flwr.serverapp.strategy.QFedAvg)", "needs the argument 'client_learning_rate'"),
        ("flower(path=nothing)", "cannot import 'nothing'"),
        ("flower(path=flwr.serverapp.strategy.FedAvg, fraction_train=0.5)", "set --fraction instead"),
        ("fedprox(mu=1e999)", "numbers are finite"),
        ("fedprox(mu=1" + 350 * "0" + ")", "fedprox: int too large to convert to float"),
        ("centralised(weighting=uniform)", "no option 'weighting'"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises((StrategyError, ValueError), match=told.replace("(", r"\(").replace(".", r"\.")):
        build(parse(text), STRATEGIES, "strategy")
