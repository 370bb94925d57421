"""How updates are combined: one file a strategy.

Copy the file that is nearest to yours and change what differs. A strategy is a frozen dataclass of its
hyper-parameters with functions for the offices (`open`, `drift`, `close`) and for the server (`server_step`), whose
defaults are FedAvg's, and a search space. The file's name is its name in grids, tables and on the command line.
`strategies.base` says what each function is given and gives back.
"""

from strategies.base import (
    Change,
    Federation,
    Job,
    Memory,
    Named,
    PrivateSteps,
    Received,
    Round,
    State,
    Strategy,
    StrategyError,
    Update,
    Workload,
)

__all__ = [
    "Change",
    "Federation",
    "Job",
    "Memory",
    "Named",
    "PrivateSteps",
    "Received",
    "Round",
    "State",
    "Strategy",
    "StrategyError",
    "Update",
    "Workload",
]
