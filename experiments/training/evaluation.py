"""How good a model is: on the common test rows, and on each office's own validation rows.

A run has one global model, or one model an office (`local`): models are the rows of a matrix (M, d) with M = 1 or K.
Test figures are plain means over the M models on the common test rows; an office's figure is its own model's, or the
global one's, on its own validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import MetricRecord
from numpy.typing import NDArray

from experiments.training.models import Model

Floats = NDArray[np.float64]
CHUNK = 256  # rows that PyTorch scores at a time: their activations stay in the cache


@dataclass(frozen=True)
class Rows:
    """Rows to score on; `person` is the id of each row's person."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    person: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation saw. Figures without rows to stand on are None.

    Attributes:
        confusion: (M, C, C) test counts, true class by predicted class.
        test_loss: mean cross-entropy over models and test rows.
        correct_by_person: person -> (correct, total) test rows, both summed over models.
        office_accuracy: accuracy of each office's validation rows, None for an office without.
        validation_accuracy: of all validation rows together.
    """

    confusion: NDArray[np.int64] | None
    test_loss: float | None
    correct_by_person: dict[str, tuple[int, int]] | None
    office_accuracy: list[float | None]
    validation_accuracy: float | None

    @property
    def test_accuracy(self) -> float | None:
        if self.confusion is None:
            return None
        correct = self.confusion.trace(axis1=1, axis2=2)
        return float(np.mean(correct / self.confusion.sum(axis=(1, 2))))

    @property
    def test_f1_per_class(self) -> list[float | None] | None:
        """F1 of each class, mean over models; None for a class without test rows."""
        if self.confusion is None:
            return None
        present = self.confusion.sum(axis=2).sum(axis=0) > 0
        scores = f1_per_class(self.confusion).mean(axis=0)
        return [float(score) if here else None for score, here in zip(scores, present, strict=True)]

    @property
    def test_macro_f1(self) -> float | None:
        """Mean F1 over the classes of the test rows."""
        scores = self.test_f1_per_class
        return None if scores is None else float(np.mean([score for score in scores if score is not None]))

    def metrics(self) -> MetricRecord:
        """As a message carries it; `from_metrics` reads it back."""
        record = MetricRecord()
        if self.confusion is not None and self.correct_by_person is not None and self.test_loss is not None:
            record["confusion"] = self.confusion.ravel().tolist()
            record["test-loss"] = self.test_loss
            record["persons"] = [int(person) for person in self.correct_by_person]
            record["correct"] = [right for right, _ in self.correct_by_person.values()]
            record["rows"] = [total for _, total in self.correct_by_person.values()]
        record["office-accuracy"] = [math.nan if value is None else value for value in self.office_accuracy]
        if self.validation_accuracy is not None:
            record["validation-accuracy"] = self.validation_accuracy
        return record


def from_metrics(record: MetricRecord, classes: int) -> Evaluation:
    """An evaluation of one model, from `Evaluation.metrics`."""
    found: dict[str, Any] = dict(record)
    tested = "confusion" in found
    return Evaluation(
        confusion=np.array(found["confusion"], np.int64).reshape(1, classes, classes) if tested else None,
        test_loss=found["test-loss"] if tested else None,
        correct_by_person={
            str(person): (right, total)
            for person, right, total in zip(found["persons"], found["correct"], found["rows"], strict=True)
        }
        if tested
        else None,
        office_accuracy=[None if math.isnan(value) else value for value in found["office-accuracy"]],
        validation_accuracy=found.get("validation-accuracy"),
    )


def f1_per_class(confusion: NDArray[np.int64]) -> Floats:
    """F1 = 2 TP / (2 TP + FP + FN) of each class, from (..., C, C) counts; 0 for one neither there nor predicted."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)  # (TP + FN) + (TP + FP)
    scores: Floats = np.divide(2.0 * hit, both, out=np.zeros(hit.shape), where=both > 0)
    return scores


class Evaluator:
    """Score models on fixed rows.

    Args:
        model: settings of the model.
        classes: number of classes C.
        shape: shape of one row.
        test: the common test rows, or None (a tuning run never sees them).
        validation: the validation rows of each office (maybe none), in office order.
    """

    def __init__(
        self, model: Model, classes: int, shape: tuple[int, ...], test: Rows | None, validation: Sequence[Rows]
    ) -> None:
        self.classes, self.test, self.validation = classes, test, validation
        self.predict = compiled(model, shape, classes) or by_module(model, shape, classes)

    def __call__(self, models: NDArray[np.float32]) -> Evaluation:
        """Score models (M, d)."""
        correct = [0.0] * len(self.validation)
        confusions, losses, hits = [], [], []
        for number, w in enumerate(models):
            if self.test is not None:
                predicted, loss = self.predict(w, self.test)
                losses.append(loss)
                confusions.append(self._confusion(self.test.y, predicted))
                hits.append(predicted == self.test.y)
            for office, rows in enumerate(self.validation):
                if len(rows) and (len(models) == 1 or office == number):
                    predicted, _ = self.predict(w, rows)
                    correct[office] = float(np.sum(predicted == rows.y))
        total = sum(len(rows) for rows in self.validation)
        return Evaluation(
            confusion=np.stack(confusions) if confusions else None,
            test_loss=float(np.mean(losses)) if losses else None,
            correct_by_person=self._by_person(np.stack(hits)) if hits else None,
            office_accuracy=[
                right / len(rows) if len(rows) else None for right, rows in zip(correct, self.validation, strict=True)
            ],
            validation_accuracy=sum(correct) / total if total else None,
        )

    def _confusion(self, true: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        cells = np.bincount(true * self.classes + predicted, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes)

    def _by_person(self, hits: NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
        """Correct and all test rows of each person, summed over models; `hits` is (M, rows)."""
        assert self.test is not None
        persons = {person: self.test.person == person for person in np.unique(self.test.person)}
        return {str(person): (int(hits[:, own].sum()), len(hits) * int(own.sum())) for person, own in persons.items()}


Predict = Callable[[NDArray[np.float32], Rows], tuple[NDArray[np.int64], float]]


def compiled(model: Model, shape: tuple[int, ...], classes: int) -> Predict | None:
    """Predicted classes and mean cross-entropy of rows under a flat model, compiled; None if it cannot be."""
    widths = model.widths(shape, classes)
    if widths is None:
        return None
    from experiments.training.kernels import kernel

    layers = np.array(widths)

    def predict(w: NDArray[np.float32], rows: Rows) -> tuple[NDArray[np.int64], float]:
        predicted, total = kernel.score(w, layers, rows.x.reshape(len(rows), -1), rows.y)
        return predicted, total / len(rows)

    return predict


def by_module(model: Model, shape: tuple[int, ...], classes: int) -> Predict:
    """The same by PyTorch, for any model."""
    import torch
    from torch.nn import functional

    from experiments.training.flat import Flat

    flat = Flat(model.module(shape, classes))

    @torch.no_grad()
    def predict(w: NDArray[np.float32], rows: Rows) -> tuple[NDArray[np.int64], float]:
        flat.load(w)
        logits = flat.module(torch.from_numpy(rows.x))
        return logits.argmax(1).numpy(), float(functional.cross_entropy(logits, torch.from_numpy(rows.y)))

    return predict


def row_losses(model: Model, shape: tuple[int, ...], classes: int) -> Callable[[NDArray[np.float32], Rows], Floats]:
    """The cross-entropy of each row (n,) under a flat model, by PyTorch; for what needs no speed."""
    import torch
    from torch.nn import functional

    from experiments.training.flat import Flat

    flat = Flat(model.module(shape, classes))

    @torch.no_grad()
    def losses(w: NDArray[np.float32], rows: Rows) -> Floats:
        flat.load(w)
        x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
        found = np.empty(len(rows))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            found[part] = functional.cross_entropy(flat.module(x[part]), y[part], reduction="none").numpy()
        return found

    return losses
