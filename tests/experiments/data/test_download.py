"""Downloads from a server of our own: whole, cut short, broken, silent."""

from __future__ import annotations

import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from experiments.data import DataNotFound
from experiments.data.download import fetch


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", b"hello " * 1000)
    return buffer.getvalue()


ZIP = a_zip()  # once: a zip holds the time it was made


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = ZIP
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.path == "/page":
            content = b"<html>please log in</html>".ljust(len(content))
        if self.path == "/flipped":
            content = content.replace(b"hello hello", b"hello hallo", 1)
        self.wfile.write(content[: len(content) // 2] if self.path == "/short" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_whole_zip_arrives_with_a_progress_bar(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "uci.zip"
    fetch(f"{server}/whole", target)
    assert target.read_bytes() == ZIP
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "UCI HAR" in shown.err


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("short", r"3,\d\d\d of 6,\d\d\d bytes arrived"),
        ("page", "not a zip file"),
        ("flipped", "hello.txt in it is damaged"),
        ("gone", "Not Found"),
    ],
)
def test_what_does_not_arrive_whole_leaves_nothing(server: str, tmp_path: Path, page: str, reason: str) -> None:
    with pytest.raises(DataNotFound, match=f"{page} could not be downloaded .*{reason}"):
        fetch(f"{server}/{page}", tmp_path / "uci.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(DataNotFound, match="refused"):
            fetch(f"http://127.0.0.1:{held.getsockname()[1]}/", tmp_path / "uci.zip")


def test_a_silent_server_is_given_up_in_time(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        with pytest.raises(DataNotFound, match=r"no connection after 0\.3 s|timed out"):
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/", tmp_path / "uci.zip", seconds=0.3)
        assert time.perf_counter() - start < 2


def test_a_name_that_is_looked_up_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket timeout covers the name's look-up."""
    done = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        done.wait(10)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.perf_counter()
    with pytest.raises(DataNotFound, match=r"no connection after 0\.3 s"):
        fetch("http://nowhere.invalid/", tmp_path / "uci.zip", seconds=0.3)
    assert time.perf_counter() - start < 2
    done.set()


def test_a_folder_that_cannot_be_made(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataNotFound, match="could not be downloaded"):
        fetch(f"{server}/whole", tmp_path / "file" / "uci.zip")
