"""Read, write and list objects under one contract, on a local disk and in S3.

A URI is ``s3://bucket/key`` or a local path: ``runs/x``, ``/data/x``, ``file:///data/x``. Names are exact to
the byte: nothing in a URI is decoded, expanded or normalised. An object is an S3 object or a regular file;
folders are none, nor are the S3 keys ending in ``/`` that stand for empty folders.

Each of the clients in `s3` does what it is best at: obstore one-request reads and create-only writes, s3fs
listings, pyarrow Parquet and Ray Train. Every function raises the errors of `faults.translated`.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unet_ray import s3
from unet_ray.errors import ChangedError, ExistsError, NotFoundError, StorageError, TransientError
from unet_ray.faults import outlast, translated
from unet_ray.local_files import TEMPORARY, create_file, temporary_file
from unet_ray.spending import count_read

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from s3fs import S3FileSystem

_S3 = "s3://"
_FILE = "file://"

# obstore leaves a request that it may not repeat when its connection breaks; these may be, and are for this long.
_BROKEN_CONNECTION_S = 5.0


# URIs


def is_remote(uri: str) -> bool:
    """Tell whether a URI names something in an object store."""
    return uri.startswith(_S3)


def join(uri: str, *parts: str) -> str:
    """Append parts to a URI, with one ``/`` put between where there is none at the end."""
    for part in parts:
        uri = f"{uri}{part}" if uri.endswith("/") else f"{uri}/{part}"
    return uri


def name(uri: str) -> str:
    """Give the last component of a URI; a ``/`` at its end does not count."""
    return uri.rstrip("/").rpartition("/")[2]


def absolute(uri: str) -> str:
    """Spell a local URI as an absolute path, so that it means the same in every process of this machine.

    An S3 URI is returned as it is. Symbolic links and ``..`` stay. A path starting with ``~`` is refused,
    here and everywhere: a shell would have expanded it, and a folder called ``~`` is never meant.
    """
    return uri if is_remote(uri) else str(_path(uri))


def _path(uri: str) -> Path:
    local = uri.removeprefix(_FILE)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", local):
        raise StorageError(f"the scheme of {uri} is not supported: use a local path, file:///... or s3://bucket/key")
    if uri.startswith(_FILE) and not local.startswith("/"):
        raise StorageError(f"{uri} names a host: write file:///, with three slashes, before an absolute path")
    if local.startswith("~"):
        raise StorageError(f"{uri} starts with '~', which is not expanded: write the home folder out")
    if not local:
        raise StorageError("a location is empty: use a local path, file:///... or s3://bucket/key")
    return Path(local).absolute()


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(_S3).partition("/")
    if not bucket:
        raise StorageError(f"{uri} names no bucket: write s3://bucket/key")
    return bucket, key


def _object(uri: str) -> tuple[str, str]:
    bucket, key = _bucket_and_key(uri)
    if not key or key.endswith("/"):
        raise StorageError(f"{uri} names a bucket or a folder where an object is needed: write s3://bucket/key")
    return bucket, key


# Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One listed object.

    ``key`` is relative to the listed root, with ``/`` between folders. ``etag`` changes with the content: the
    entity tag of the store, or the modification time and size of a local file.
    """

    key: str
    uri: str
    size_bytes: int
    etag: str


def list_objects(root: str) -> Iterator[ObjectInfo]:
    """Yield every object under a folder, at any depth and in no promised order.

    Names that start with ``_`` or ``.`` are listed too. Locally, symbolic links are followed; a dangling one
    is listed with the size of the link, and reading it raises NotFoundError. An S3 prefix that holds nothing
    yields nothing.

    Raises:
        NotFoundError: at the first item, when the local folder or the bucket is not there.
    """
    with translated("list", root):
        yield from _list_s3(root) if is_remote(root) else _list_local(root)


def _list_s3(root: str) -> Iterator[ObjectInfo]:
    bucket, prefix = _bucket_and_key(root)
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    client = s3.s3fs_client()
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = client.call_s3("list_objects_v2", **request)
        for found in page.get("Contents", ()):
            key = found["Key"].removeprefix(prefix)
            if key and not key.endswith("/"):
                etag = found["ETag"].strip('"')
                yield ObjectInfo(key=key, uri=join(root, key), size_bytes=found["Size"], etag=etag)
        if "IsTruncated" not in page:
            raise StorageError(f"could not list {root}: what answers there is no S3 store; check AWS_ENDPOINT_URL")
        if not page["IsTruncated"]:
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _list_local(root: str) -> Iterator[ObjectInfo]:
    top, pending = _path(root), [""]
    while pending:
        folder = pending.pop()
        with os.scandir(top / folder) as entries:
            for entry in entries:
                key = folder + entry.name
                if entry.is_dir():
                    pending.append(f"{key}/")
                elif not key.endswith(TEMPORARY) and (entry.is_file() or entry.is_symlink()):
                    found = entry.stat(follow_symlinks=entry.is_file())
                    yield ObjectInfo(key=key, uri=join(root, key), size_bytes=found.st_size, etag=_local_etag(found))


def _local_etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


# Objects


def exists(uri: str) -> bool:
    """Tell whether an object is there; false for a folder, and for anything in a bucket that is not there."""
    with translated("look up", uri):
        if not is_remote(uri):
            return _path(uri).is_file()
        try:
            _head_s3(*_object(uri))
        except FileNotFoundError:
            return False
        return True


def look_up(uri: str) -> ObjectInfo:
    """Return what a listing tells of an object; its key is its name.

    Raises:
        NotFoundError: There is no such object; it may be a folder.
    """
    with translated("look up", uri):
        if is_remote(uri):
            size, etag = _head_s3(*_object(uri))
        else:
            found = _path(uri).stat()
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError
            size, etag = found.st_size, _local_etag(found)
    return ObjectInfo(key=name(uri), uri=uri, size_bytes=size, etag=etag)


def read_bytes(uri: str, *, etag: str | None = None, span: tuple[int, int] | None = None) -> bytes:
    """Return the content of an object, in one request.

    Args:
        uri: The object.
        etag: The `ObjectInfo.etag` it must still have; None takes whatever is there.
        span: The first byte and the one after the last to read, not empty and within the object; None reads it whole.

    Raises:
        ChangedError: It has another etag.
    """
    with translated("read", uri):
        data = _read_s3(*_object(uri), etag, span) if is_remote(uri) else _read_local(uri, etag, span)
    count_read(len(data))
    return data


def create(uri: str, data: bytes, *, exclusive: bool = True) -> bool:
    """Write an object that must not be there yet, whole or not at all; of several writers one succeeds.

    Local parent folders are made as needed.

    Args:
        uri: The object.
        data: Its content.
        exclusive: Let the store itself refuse when something is there. False looks first instead, for a store that
            cannot (`check_output`): then two writers at the same moment may both succeed, and the second wins.

    Returns:
        True if this call wrote the object. False if it is already there with the same bytes, written by
        another writer or by this one in a request whose reply was lost.

    Raises:
        ExistsError: the object is there with other bytes, and was left as it is.
    """
    if outlast(lambda: _create(uri, data), seconds=_BROKEN_CONNECTION_S) if exclusive else _add(uri, data):
        return True
    try:
        found = read_bytes(uri)
    except NotFoundError:
        raise TransientError(f"could not create {uri}: another writer is at the same object; try again") from None
    if found != data:
        raise ExistsError(
            f"could not create {uri}: an object with other content is there ({len(found)} bytes, not these "
            f"{len(data)}) and is never replaced; use another location or delete it"
        )
    return False


def _create(uri: str, data: bytes) -> bool:
    with translated("create", uri):
        return _put_s3(uri, data, mode="create") if is_remote(uri) else create_file(_path(uri), data)


def _add(uri: str, data: bytes) -> bool:
    if exists(uri):
        return False
    write(uri, data)
    return True


def check_output(uri: str, *, exclusive: bool = True) -> None:
    """Make sure that a folder takes objects and, if `create` is to be ``exclusive``, that none can be replaced by it.

    Leaves a small object called "_PROBE" in the folder. May be called again, and by several at once.

    Raises:
        AccessError: Nothing can be written there.
        StorageError: The store lets the second writer win, or knows no such writes.
    """
    probe = join(uri, "_PROBE")
    if not exclusive:
        write(probe, b"0: unet-ray asks whether this can be written\n")
        return
    try:
        create(probe, b"1: unet-ray asks whether this can be replaced\n")
        replaced = create(probe, b"2: it can\n")
    except ExistsError:
        return
    if replaced:
        raise StorageError(
            f"the store of {uri} ignores create-only writes (If-None-Match): the second write of {probe} replaced the "
            "first, so two drivers could undo each other's work; use another store, or promise that only one driver "
            "writes, with --run.single_writer true"
        )


def write(uri: str, data: bytes) -> None:
    """Write an object, replacing any that is there: readers see the old or the new content, never a part."""
    with translated("write", uri):
        if is_remote(uri):
            _put_s3(uri, data, mode="overwrite")
        else:
            path = _path(uri)
            with temporary_file(path.parent, data) as temporary:
                temporary.replace(path)


def delete(uri: str) -> None:
    """Delete an object; one that is not there is fine."""
    outlast(lambda: _delete(uri), seconds=_BROKEN_CONNECTION_S)


def delete_all(uri: str) -> None:
    """Delete every object under a URI."""
    for item in list_objects(uri):
        delete(item.uri)


def _delete(uri: str) -> None:
    with translated("delete", uri):
        if is_remote(uri):
            import obstore

            bucket, key = _writable(uri)
            obstore.delete(s3.object_store(bucket), key)
        else:
            _path(uri).unlink(missing_ok=True)


def arrow_filesystem(uri: str) -> "tuple[FileSystem, str]":
    """Give the pyarrow file system of a URI and the path in it, for Parquet and for Ray Train.

    The file system can be pickled: it holds no credentials, a worker finds its own. Work on it belongs inside
    `faults.translated`.
    """
    from pyarrow.fs import LocalFileSystem

    if not is_remote(uri):
        return LocalFileSystem(), str(_path(uri))
    bucket, key = _bucket_and_key(uri)
    return s3.arrow_client(), f"{bucket}/{key}".rstrip("/")


def _read_local(uri: str, etag: str | None, span: tuple[int, int] | None) -> bytes:
    with _path(uri).open("rb") as file:
        if etag is not None and _local_etag(os.fstat(file.fileno())) != etag:
            raise ChangedError(f"could not read {uri}: the file changed since it was listed")
        if span is None:
            return file.read()
        file.seek(span[0])
        return file.read(span[1] - span[0])


# obstore takes no control characters and no empty, "." or ".." segments; it would drop slashes at both ends.
_BEYOND_OBSTORE = re.compile(r"[\x00-\x1f\x7f]|(^|/)\.{0,2}(/|$)")


def _writable(uri: str) -> tuple[str, str]:
    bucket, key = _object(uri)
    if _BEYOND_OBSTORE.search(key):
        raise StorageError(f"{uri!r} holds '//', './', '../' or a control character: only reading such keys is allowed")
    return bucket, key


def _head_s3(bucket: str, key: str) -> tuple[int, str]:
    """Return the size in bytes and the entity tag of an object."""
    if _BEYOND_OBSTORE.search(key):
        found = s3.s3fs_client().call_s3("head_object", Bucket=bucket, Key=key)
        return found["ContentLength"], found["ETag"].strip('"')
    import obstore

    meta = obstore.head(s3.object_store(bucket), key)
    return meta["size"], (meta["e_tag"] or "").strip('"')


def _read_s3(bucket: str, key: str, etag: str | None, span: tuple[int, int] | None) -> bytes:
    if _BEYOND_OBSTORE.search(key):
        from fsspec.asyn import sync

        request = {"Bucket": bucket, "Key": key}
        if etag is not None:
            request["IfMatch"] = f'"{etag}"'
        if span is not None:
            request["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        client = s3.s3fs_client()
        content: bytes = sync(client.loop, _get_with_s3fs, client, request)
        return content
    import obstore

    options: obstore.GetOptions = {}
    if etag is not None:
        options["if_match"] = f'"{etag}"'
    if span is not None:
        options["range"] = span
    return obstore.get(s3.object_store(bucket), key, options=options).bytes().to_bytes()


async def _get_with_s3fs(client: "S3FileSystem", request: dict[str, str]) -> bytes:
    """Get an object under a condition, which ``cat_file`` does not take."""
    response = await client._call_s3("get_object", **request)
    async with response["Body"] as stream:
        content: bytes = await stream.read()
    return content


def _put_s3(uri: str, data: bytes, *, mode: Literal["create", "overwrite"]) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError

    bucket, key = _writable(uri)
    store = s3.object_store(bucket, upload_bytes=len(data))
    try:
        obstore.put(store, key, data, mode=mode, use_multipart=False)
    except AlreadyExistsError:
        return False
    return True
