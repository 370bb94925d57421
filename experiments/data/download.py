"""Fetching a zip: given up after ten seconds without a connection, checked, whole or not there at all."""

from __future__ import annotations

import http.client
import queue
import threading
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import IO

from experiments.data.cache import atomic
from experiments.data.dataset import DataNotFound

CONNECT_SECONDS = 10.0
BLOCK = 1 << 16


def fetch(url: str, target: Path, seconds: float = CONNECT_SECONDS) -> None:
    """Download the zip at `url` to `target`, with a progress bar on stderr.

    Raises DataNotFound where no connection comes up in `seconds`, it stalls that long, or what arrives
    is not the whole zip; nothing is left behind then."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _connect(url, seconds) as response, atomic(target) as file:
            _copy(response, file)
            _check(file)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = getattr(error, "reason", error)  # a URLError wraps what happened
        raise DataNotFound(f"{url} could not be downloaded ({reason or type(error).__name__})") from None


def _connect(url: str, seconds: float) -> http.client.HTTPResponse:
    """The open response. In a thread, because a socket's timeout covers neither the look-up of the name nor
    the sum over a host's several addresses; the thread dies with the process."""
    answers: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=seconds))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no connection after {seconds:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _copy(response: http.client.HTTPResponse, file: IO[bytes]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    length = response.headers.get("Content-Length", "")
    expected = int(length) if length.isdigit() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("UCI HAR", total=expected)
        while block := response.read(BLOCK):
            file.write(block)
            progress.advance(task, len(block))
    # A connection that closes early ends a read like a complete one.
    if expected is not None and file.tell() != expected:
        raise OSError(f"{file.tell():,} of {expected:,} bytes arrived")


def _check(file: IO[bytes]) -> None:
    """Every member's CRC-32."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} in it is damaged")
