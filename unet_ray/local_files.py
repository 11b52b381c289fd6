"""Local files that are there whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_ray.errors import StorageError

TEMPORARY = ".unet-ray-tmp"
"""Ending of the files that are being written."""

_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK}


def create_file(path: Path, data: bytes) -> bool:
    """Create a file in a folder that is made as needed; return False, changing nothing, when it is there already.

    Raises:
        StorageError: The file system has no hard links.
    """
    with temporary_file(path.parent, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            raise StorageError(
                f"could not create {path}: {os.strerror(error.errno)}; this file system has no hard links, which make "
                "a create-only write safe: use another, or promise that only one driver writes, with "
                "--run.single_writer true"
            ) from None
    return True


@contextmanager
def temporary_file(folder: Path, data: bytes) -> Iterator[Path]:
    """Write data to a file beside its final place and make the name it is given there durable."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{secrets.token_hex(8)}{TEMPORARY}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        temporary.unlink(missing_ok=True)
