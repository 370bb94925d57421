"""How updates are combined: one file a strategy.

Copy the file that is nearest to yours and change what differs. A strategy is a frozen dataclass of its
hyper-parameters with a server part (a Flower `Strategy`), a client part (`open`, `gradient`, `close`; the defaults
are FedAvg's) and a search space. The file's name is its name in grids, tables and on the command line.
`strategies.base` says what each part may override.
"""

from strategies.base import Federation, Job, Memory, PrivateSteps, Strategy, StrategyError, Update, Workload

__all__ = ["Federation", "Job", "Memory", "PrivateSteps", "Strategy", "StrategyError", "Update", "Workload"]
