"""Files that appear whole or not at all, whatever stops the writer, and what they are called."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from results import ResultsError

TEMPORARY = ".tmp"  # ends the name of a file that is being written


def slug(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "data"


def write_anew(path: Path, content: bytes) -> None:
    """As `write_whole`; the folder is made if need be.

    Raises:
        ResultsError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written ({error.strerror}); choose another --results") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all: temporary name beside it, flush, rename, flush the folder.

    Raises:
        OSError: it cannot be written; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make a rename or removal in a folder outlast a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
