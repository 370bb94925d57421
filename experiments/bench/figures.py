"""Figures as they are measured: a section (a table), a row, a column, a value and its unit."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One cell. A ratio or a plain number has no unit."""

    section: str
    row: str
    column: str
    value: float
    unit: str


@dataclass
class Figures:
    """Cells in the order they came, versions of what else was run, and remarks on what could not be measured."""

    cells: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)  # of the frameworks measured

    def add(self, section: str, row: str, column: str, value: float, unit: str = "") -> None:
        """One more cell."""
        self.cells.append(Figure(section, row, column, value, unit))

    def look(self, section: str, row: str, column: str) -> float | None:
        """A cell's value, None if it was not measured. A section may be named by how it starts."""
        for cell in self.cells:
            if cell.section.startswith(section) and (cell.row, cell.column) == (row, column):
                return cell.value
        return None

    def get(self, section: str, row: str, column: str) -> float:
        """A cell's value.

        Raises:
            KeyError: it was not measured.
        """
        value = self.look(section, row, column)
        if value is None:
            raise KeyError(f"{section} / {row} / {column} was not measured")
        return value
