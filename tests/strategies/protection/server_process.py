"""A protected server in a process of its own, which has a pipe to the offices and nothing of theirs.

    python -m tests.strategies.protection.server_process FILE_DESCRIPTOR

reads a pickled `ServerSide` from the pipe and runs its rounds; each batch of messages goes out as Flower would send it
and comes back answered.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from experiments.engines import flower
from experiments.federation.provenance import ROOT
from experiments.federation.rounds import ServerSide

Answer = Callable[[list[Message]], Sequence[Message]]


class PipeGrid(Grid):
    """The engine's Grid as the server's process has it."""

    def __init__(self, connection: Connection, nodes: int) -> None:
        self.connection, self.nodes = connection, nodes

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.nodes + 1))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        sent = [(m.metadata.message_type, m.metadata.dst_node_id, written(m.content)) for m in messages]
        self.connection.send(sent)
        return [
            Message(read(content), reply_to=message)
            for message, content in zip(messages, self.connection.recv(), strict=True)
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        raise NotImplementedError


def written(content: RecordDict) -> bytes:
    sent: bytes = recorddict_to_proto(content).SerializeToString()
    return sent


def read(content: bytes) -> RecordDict:
    return recorddict_from_proto(RecordDictProto.FromString(content))


def serve(side: bytes, nodes: int, answer: Callable[[int, list[Message]], Sequence[Message]]) -> Any:
    """Run a server in a child and answer its messages here; `answer` is given the child's process id as well.

    Returns:
        the rows of its rounds.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "tests.strategies.protection.server_process", str(theirs.fileno())]
    child = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        ours.send((side, nodes))
        while isinstance(batch := ours.recv(), list):
            messages = [Message(read(content), dst_node_id=node, message_type=kind) for kind, node, content in batch]
            ours.send([written(reply.content) for reply in answer(child.pid, messages)])
        return batch
    finally:
        ours.close()
        child.wait(timeout=20)


def main(descriptor: int) -> None:
    """The child."""
    import pickle

    flower.quiet()
    flower.identify()
    connection = Connection(descriptor)
    side, nodes = connection.recv()
    server: ServerSide = pickle.loads(side)
    outcome = server(PipeGrid(connection, nodes))
    connection.send(tuple(outcome.rounds))


if __name__ == "__main__":
    main(int(sys.argv[1]))
