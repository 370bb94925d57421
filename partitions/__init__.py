"""Who holds which data, and how uneven it is: one file a partition.

Copy the file that is nearest to yours and change its `split`; the file's name is the partition's name in grids,
tables and on the command line. `partitions.base` says what a partition is given and what it owes.
"""

from partitions.base import Partition, PartitionError, Pool
from partitions.deal import Deal, deal
from partitions.folds import Fold
from partitions.measures import Unevenness

__all__ = ["Deal", "Fold", "Partition", "PartitionError", "Pool", "Unevenness", "deal"]
