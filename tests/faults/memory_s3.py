"""S3 in memory: what a call does to the objects of a store, and what it is answered.

As much of the protocol as obstore, s3fs and pyarrow speak, path-style and without signatures. An upload that is
completed twice is unknown the second time, as with MinIO.
"""

import hashlib
import html
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

_STATUS = {
    "BadRequest": 400,
    "ExpiredToken": 400,
    "InvalidPart": 400,
    "RequestTimeout": 400,
    "AccessDenied": 403,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "PreconditionFailed": 412,
    "InvalidRange": 416,
    "InternalError": 500,
    "NotImplemented": 501,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
}
_REASON = {100: "Continue", 200: "OK", 204: "No Content", 206: "Partial Content"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it came: the key is decoded, names of headers are lower case, the body is without chunk marks."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """Name of what is asked for: "get", "put_part"; "unknown" is answered NotImplemented."""
        return self._route[0]

    @property
    def apply(self) -> "Callable[[Memory, Call], Reply]":
        """The function that does it."""
        return self._route[1]

    @property
    def path(self) -> str:
        """What it is about: "bucket/key", "bucket/prefix", or the keys of a joint deletion, one to a line."""
        if self.operation == "delete_many":
            return "\n".join(f"{self.bucket}/{html.unescape(key)}" for key in _listed_keys(self))
        return f"{self.bucket}/{self.key or self.query.get('prefix', '')}"

    @property
    def _route(self) -> "tuple[str, Callable[[Memory, Call], Reply]]":
        special = next((name for name in ("uploads", "uploadId", "delete") if name in self.query), "")
        if self.method == "PUT" and "x-amz-copy-source" in self.headers:
            special = f"copy{special}"
        return _ROUTES.get((self.method, self.key != "", special), ("unknown", _unknown))


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back; of the body only ``sent`` bytes, and then the connection is closed, unless that is None."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None

    def wire(self, method: str) -> bytes:
        """Give the bytes of the reply to a request of a method."""
        fields = {"Content-Length": str(len(self.body)), "Content-Type": "application/xml", **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        start = f"HTTP/1.1 {self.status} {_REASON.get(self.status, 'Error')}\r\n{head}\r\n".encode("latin-1")
        return start if method == "HEAD" else start + self.body[: self.sent]


class Refusal(Exception):
    """A call that is answered with an error; the argument is its code."""


def refusal(code: str) -> Reply:
    """Give the answer that holds an error code."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Reply(_STATUS[code], body.encode())


def parse_call(method: str, target: str, headers: dict[str, str], body: bytes) -> Call:
    """Read the target of a request, /bucket/key?query, and the chunks of an aws-chunked body."""
    path, _, query = target.partition("?")
    bucket, _, key = path[1:].partition("/")
    if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        body = _without_chunks(body)
    return Call(
        method=method,
        bucket=unquote(bucket),
        key=unquote(key, errors="surrogateescape"),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=body,
    )


def _without_chunks(body: bytes) -> bytes:
    content: list[bytes] = []
    start = 0
    while True:
        end = body.index(b"\r\n", start)
        size = int(body[start:end].partition(b";")[0], 16)
        if size == 0:  # what follows is a checksum
            return b"".join(content)
        content.append(body[end + 2 : end + 2 + size])
        start = end + 2 + size + 2


class Stored(NamedTuple):
    """An object."""

    data: bytes
    etag: str
    modified: str
    content_type: str

    def headers(self) -> dict[str, str]:
        """Give the headers of an answer about the object."""
        return {
            "ETag": self.etag,
            "Last-Modified": self.modified,
            "Content-Type": self.content_type,
            "Accept-Ranges": "bytes",
        }


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload: the content of each part that came, by its number."""

    bucket: str
    key: str
    content_type: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """All that a store holds. Its values are never changed in place, so that copies may share them."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    honours_if_none_match: bool = True

    def copy(self) -> "Memory":
        """Give a memory of the same content, which later calls on this one leave as it is."""
        buckets = {name: dict(objects) for name, objects in self.buckets.items()}
        return Memory(buckets, dict(self.uploads), self.honours_if_none_match)

    def answer(self, call: Call) -> Reply:
        """Do what a call asks for; an error changes nothing."""
        try:
            return call.apply(self, call)
        except Refusal as error:
            return refusal(str(error))

    def objects(self, call: Call) -> dict[str, Stored]:
        """Give the objects of the bucket of a call."""
        if call.bucket not in self.buckets:
            raise Refusal("NoSuchBucket")
        return self.buckets[call.bucket]


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _content_type(call: Call) -> str:
    return call.headers.get("content-type", "binary/octet-stream")


def _found(memory: Memory, call: Call) -> Stored:
    found = memory.objects(call).get(call.key)
    if found is None:
        raise Refusal("NoSuchKey")
    if call.headers.get("if-match", "*").strip('"') not in {"*", found.etag.strip('"')}:
        raise Refusal("PreconditionFailed")
    return found


def _head(memory: Memory, call: Call) -> Reply:
    found = _found(memory, call)
    return Reply(200, headers=found.headers() | {"Content-Length": str(len(found.data))})


def _get(memory: Memory, call: Call) -> Reply:
    found = _found(memory, call)
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if asked is None:
        return Reply(200, found.data, found.headers())
    first, last, size = asked[1], asked[2], len(found.data)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise Refusal("InvalidRange")
    content = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Reply(206, found.data[start:stop], found.headers() | content)


def _store(memory: Memory, call: Call, data: bytes, etag: str, content_type: str) -> None:
    """Put an object where the conditions of the call allow it."""
    objects = memory.objects(call)
    if memory.honours_if_none_match and call.headers.get("if-none-match") == "*" and call.key in objects:
        raise Refusal("PreconditionFailed")
    if "if-match" in call.headers:
        _found(memory, call)
    objects[call.key] = Stored(data, etag, formatdate(usegmt=True), content_type)


def _put(memory: Memory, call: Call) -> Reply:
    etag = _etag(call.body)
    _store(memory, call, call.body, etag, _content_type(call))
    return Reply(200, headers={"ETag": etag})


def _copy(memory: Memory, call: Call) -> Reply:
    bucket, _, key = unquote(call.headers["x-amz-copy-source"]).lstrip("/").partition("/")
    source = _found(memory, replace(call, bucket=bucket, key=key, headers={}))
    _store(memory, call, source.data, source.etag, source.content_type)
    return Reply(200, f"<CopyObjectResult><ETag>{source.etag}</ETag></CopyObjectResult>".encode())


def _delete(memory: Memory, call: Call) -> Reply:
    memory.objects(call).pop(call.key, None)
    return Reply(204)


def _listed_keys(call: Call) -> list[str]:
    return re.findall(r"<Key>(.*?)</Key>", call.body.decode(errors="surrogateescape"), re.DOTALL)


def _delete_many(memory: Memory, call: Call) -> Reply:
    objects, deleted = memory.objects(call), _listed_keys(call)
    for key in deleted:
        objects.pop(html.unescape(key), None)
    told = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in deleted)
    return Reply(200, f"<DeleteResult>{told}</DeleteResult>".encode(errors="surrogateescape"))


def _list(memory: Memory, call: Call) -> Reply:
    objects, prefix = memory.objects(call), call.query.get("prefix", "")
    delimiter, limit = call.query.get("delimiter", ""), int(call.query.get("max-keys", 1000))
    after = unquote(call.query.get("continuation-token", "")) or call.query.get("start-after", "")
    spell = _percent if call.query.get("encoding-type") == "url" else _escaped
    entries: list[str] = []
    last, truncated = after, False
    for key in sorted(key for key in objects if key.startswith(prefix) and key > after):
        if delimiter and last.endswith(delimiter) and key.startswith(last):
            continue
        if len(entries) >= limit:
            truncated = True
            break
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        last = f"{prefix}{head}{delimiter}" if found else key
        if found:
            entries.append(f"<CommonPrefixes><Prefix>{spell(last)}</Prefix></CommonPrefixes>")
        else:
            entries.append(_entry(spell(key), objects[key]))
    token = f"<NextContinuationToken>{_percent(last)}</NextContinuationToken>" if truncated else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{call.bucket}</Name><Prefix>{spell(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
        f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>{token}"
        f"{'<EncodingType>url</EncodingType>' if spell is _percent else ''}{''.join(entries)}</ListBucketResult>"
    )
    return Reply(200, body.encode(errors="surrogateescape"))


def _entry(key: str, found: Stored) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{found.etag}</ETag>"
        f"<Size>{len(found.data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _percent(key: str) -> str:
    return quote(key, errors="surrogateescape")


def _escaped(key: str) -> str:
    return html.escape(key, quote=False)


def _create_upload(memory: Memory, call: Call) -> Reply:
    memory.objects(call)
    upload_id = uuid.uuid4().hex
    memory.uploads[upload_id] = Upload(call.bucket, call.key, _content_type(call))
    place = f"<Bucket>{call.bucket}</Bucket><Key>{_escaped(call.key)}</Key><UploadId>{upload_id}</UploadId>"
    return Reply(200, f"<InitiateMultipartUploadResult>{place}</InitiateMultipartUploadResult>".encode())


def _upload(memory: Memory, call: Call) -> Upload:
    upload = memory.uploads.get(call.query["uploadId"])
    if upload is None or (upload.bucket, upload.key) != (call.bucket, call.key):
        raise Refusal("NoSuchUpload")
    return upload


def _put_part(memory: Memory, call: Call) -> Reply:
    upload = _upload(memory, call)
    parts = {**upload.parts, int(call.query["partNumber"]): call.body}
    memory.uploads[call.query["uploadId"]] = replace(upload, parts=parts)
    return Reply(200, headers={"ETag": _etag(call.body)})


def _complete(memory: Memory, call: Call) -> Reply:
    upload = _upload(memory, call)
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", call.body)]
    if not numbers or not upload.parts.keys() >= set(numbers):
        raise Refusal("InvalidPart")
    data = b"".join(upload.parts[number] for number in numbers)
    etag = f'"{_etag(data)[1:-1]}-{len(numbers)}"'
    _store(memory, call, data, etag, upload.content_type)
    del memory.uploads[call.query["uploadId"]]
    place = f"<Bucket>{call.bucket}</Bucket><Key>{_escaped(call.key)}</Key><ETag>{etag}</ETag>"
    return Reply(200, f"<CompleteMultipartUploadResult>{place}</CompleteMultipartUploadResult>".encode())


def _abort(memory: Memory, call: Call) -> Reply:
    _upload(memory, call)
    del memory.uploads[call.query["uploadId"]]
    return Reply(204)


def _create_bucket(memory: Memory, call: Call) -> Reply:
    memory.buckets.setdefault(call.bucket, {})
    return Reply(200)


def _head_bucket(memory: Memory, call: Call) -> Reply:
    memory.objects(call)
    return Reply(200)


def _delete_bucket(memory: Memory, call: Call) -> Reply:
    if memory.objects(call):
        raise Refusal("BucketNotEmpty")
    del memory.buckets[call.bucket]
    return Reply(204)


def _unknown(memory: Memory, call: Call) -> Reply:
    raise Refusal("NotImplemented")


_ROUTES: dict[tuple[str, bool, str], tuple[str, Callable[[Memory, Call], Reply]]] = {
    ("GET", True, ""): ("get", _get),
    ("HEAD", True, ""): ("head", _head),
    ("PUT", True, ""): ("put", _put),
    ("PUT", True, "copy"): ("copy", _copy),
    ("DELETE", True, ""): ("delete", _delete),
    ("POST", True, "uploads"): ("create_upload", _create_upload),
    ("PUT", True, "uploadId"): ("put_part", _put_part),
    ("POST", True, "uploadId"): ("complete", _complete),
    ("DELETE", True, "uploadId"): ("abort", _abort),
    ("GET", False, ""): ("list", _list),
    ("POST", False, "delete"): ("delete_many", _delete_many),
    ("PUT", False, ""): ("create_bucket", _create_bucket),
    ("HEAD", False, ""): ("head_bucket", _head_bucket),
    ("DELETE", False, ""): ("delete_bucket", _delete_bucket),
}
