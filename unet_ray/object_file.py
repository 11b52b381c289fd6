"""An object as a file that is read from anywhere, for decoders that need small parts of it; a file as an object."""

import io
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from unet_ray import s3, storage
from unet_ray.faults import translated
from unet_ray.local_files import TEMPORARY
from unet_ray.storage import ObjectInfo

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ObjectFile(io.RawIOBase):
    """A read-only file over an object, one request for each read: put a buffer around it.

    Every read is held to the entity tag, and raises the errors of `storage.read_bytes`.
    """

    def __init__(self, info: ObjectInfo) -> None:
        self._info = info
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, which may lie behind the end; return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._info.size_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"{self._info.uri}: byte {origin + offset} is before the start")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer, less at the end of the object; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._info.size_bytes)
        if end <= self._at:
            return 0
        data = storage.read_bytes(self._info.uri, etag=self._info.etag, span=(self._at, end))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def send_file(file: Path, uri: str) -> None:
    """Write a local file as an object, piece by piece, replacing any that is there: it is seen whole or not at all."""
    with translated("write", uri):
        if storage.is_remote(uri):
            import obstore

            bucket, _, key = uri.removeprefix("s3://").partition("/")
            obstore.put(s3.object_store(bucket, upload_bytes=file.stat().st_size), key, file)
            return
        target = Path(storage.absolute(uri))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
        try:
            shutil.copyfile(file, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
