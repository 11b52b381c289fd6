"""A loopback S3 whose faults are told by rules.

::

    with FaultStore() as store:
        store.rules = [Rule(act=Answer("SlowDown"), operation="put", key=r"_seals/", nth=3)]

Keys are written with their bucket: "bucket/folder/name". Each request is answered after the act of the first rule that
fires, or plainly. An act is given ``apply``, which does what the request asks for and returns the reply; it may leave
that undone, do something else before or after, change the reply, or hang up.
"""

import math
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BufferedIOBase
from itertools import count
from typing import Protocol, Self
from urllib.parse import unquote

from tests.faults.memory_s3 import Call, Memory, Reply, parse_call, refusal

Apply = Callable[[], Reply]


class HangUp(Exception):
    """Raised by an act: the connection is reset, without a reply."""


class Act(Protocol):
    """What happens to a request that a rule names."""

    def __call__(self, apply: Apply) -> Reply: ...


@dataclass(frozen=True)
class Answer:
    """Answer with an error: "SlowDown", "InternalError", "AccessDenied", "NoSuchKey", "ExpiredToken", ..."""

    code: str
    after: bool = False

    def __call__(self, apply: Apply) -> Reply:
        if self.after:
            apply()
        return refusal(self.code)


@dataclass(frozen=True)
class Reset:
    """Reset the connection, before or after the request is applied."""

    after: bool = False

    def __call__(self, apply: Apply) -> Reply:
        if self.after:
            apply()
        raise HangUp


@dataclass(frozen=True)
class Truncate:
    """Send a share of the body that the headers promise, then close the connection."""

    share: float = 0.5

    def __call__(self, apply: Apply) -> Reply:
        reply = apply()
        return replace(reply, sent=int(self.share * len(reply.body)))


@dataclass(frozen=True)
class FlipBit:
    """Flip the lowest bit of the byte in the middle of the body."""

    def __call__(self, apply: Apply) -> Reply:
        reply = apply()
        body, middle = bytearray(reply.body), len(reply.body) // 2
        body[middle : middle + 1] = bytes(byte ^ 1 for byte in body[middle : middle + 1])
        return replace(reply, body=bytes(body))


@dataclass(frozen=True)
class Stall:
    """Wait, then go on as if nothing had been."""

    seconds: float

    def __call__(self, apply: Apply) -> Reply:
        time.sleep(self.seconds)
        return apply()


@dataclass(frozen=True)
class Hide:
    """Leave the objects whose key, without the bucket, matches a regex out of a listing."""

    key: str

    def __call__(self, apply: Apply) -> Reply:
        def shown(entry: re.Match[bytes]) -> bytes:
            return b"" if re.search(self.key, unquote(entry[1].decode())) else entry[0]

        reply = apply()
        return replace(reply, body=re.sub(rb"<Contents><Key>(.*?)</Key>.*?</Contents>", shown, reply.body))


@dataclass(frozen=True)
class Kill:
    """Call a function, such as one that kills the client, before or after the request is applied; never reply."""

    function: Callable[[], object] = field(repr=False)
    after: bool = False

    def __call__(self, apply: Apply) -> Reply:
        if self.after:
            apply()
        self.function()
        raise HangUp


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that was received: ``number`` counts from 1; ``status`` is what it was told, 0 if nothing."""

    number: int
    operation: str
    key: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When an act happens.

    Args:
        act: What happens.
        operation: To requests of this operation, as in the log: "get", "put", "list", "delete_many". None: of all.
        key: To keys in which this regex is found. None: to all. See `Call.path` for those of a listing or a deletion.
        nth: To the n-th request that matches, counted from 1. None: to every one.
        times: To so many that match, from the n-th on (from the first, if ``nth`` is None).
        probability: With this chance each.
    """

    act: Act
    operation: str | None = None
    key: str | None = None
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0

    def matches(self, operation: str, key: str) -> bool:
        """Tell whether the rule counts a request."""
        return self.operation in {None, operation} and (self.key is None or re.search(self.key, key) is not None)

    def covers(self, position: int) -> bool:
        """Tell whether the rule is about the request at a position, from 1, among those that match."""
        first = self.nth or 1
        times = self.times or (1 if self.nth else math.inf)
        return first <= position < first + times


class FaultStore:
    """A store that runs while its context is entered, on a port of its own.

    ``rules``, ``latency_s`` (seconds before each request is applied) and ``honours_if_none_match`` may be set at any
    time. The bucket called "bucket" is always there.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.latency_s = 0.0
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._memory = Memory({"bucket": {}})
        self._log: list[Request] = []
        self._numbers = count(1)
        self.rules = ()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """URL of the store."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find the store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules, the first that fires wins; setting them starts their counts anew."""
        return self._rules

    @rules.setter
    def rules(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            self._rules = tuple(rules)
            self._matched = [0] * len(self._rules)

    @property
    def honours_if_none_match(self) -> bool:
        """Whether a create-only PUT is refused where something is; if not, the second writer wins."""
        return self._memory.honours_if_none_match

    @honours_if_none_match.setter
    def honours_if_none_match(self, honours: bool) -> None:
        self._memory.honours_if_none_match = honours

    @property
    def log(self) -> list[Request]:
        """The requests that were answered or dropped, in the order in which they came."""
        with self._lock:
            return sorted(self._log, key=lambda request: request.number)

    def clear_log(self) -> None:
        """Forget the requests; the next one has number 1."""
        with self._lock:
            self._log, self._numbers = [], count(1)

    @property
    def objects(self) -> dict[str, bytes]:
        """The content of every object."""
        with self._lock:
            buckets = self._memory.copy().buckets
        return {f"{bucket}/{key}": found.data for bucket in buckets for key, found in buckets[bucket].items()}

    def uploads(self) -> list[str]:
        """Give the keys of the multipart uploads that are open."""
        with self._lock:
            return [f"{upload.bucket}/{upload.key}" for upload in self._memory.uploads.values()]

    def snapshot(self) -> Memory:
        """Give all that the store holds, for `restore`."""
        with self._lock:
            return self._memory.copy()

    def restore(self, memory: Memory) -> None:
        """Hold what a snapshot holds; the snapshot may be used again."""
        with self._lock:
            self._memory = memory.copy()

    def clear(self) -> None:
        """Remove all objects, uploads and buckets but the one called "bucket"."""
        self.restore(Memory({"bucket": {}}, honours_if_none_match=self.honours_if_none_match))

    def answer(self, call: Call) -> Reply:
        """Give the reply to a call, after the act that the rules have for it.

        Raises:
            HangUp: there is to be none.
        """
        operation, key = call.operation, call.path
        with self._lock:
            number, act, status = next(self._numbers), self._act(operation, key), 0
        try:
            if self.latency_s:
                time.sleep(self.latency_s)
            reply = act(lambda: self._apply(call)) if act else self._apply(call)
            status = reply.status
        finally:
            with self._lock:
                self._log.append(Request(number=number, operation=operation, key=key, status=status))
        return reply

    def _act(self, operation: str, key: str) -> Act | None:
        fired = None
        for index, rule in enumerate(self._rules):
            if rule.matches(operation, key):
                self._matched[index] += 1
                if rule.covers(self._matched[index]) and self._random.random() < rule.probability:
                    fired = fired or rule.act
        return fired

    def _apply(self, call: Call) -> Reply:
        with self._lock:
            return self._memory.answer(call)


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(self, store: FaultStore) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.store = store
        self._open: set[socket.socket] = set()

    def process_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: "socket.socket | tuple[bytes, socket.socket]") -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        request.close()  # the parent says goodbye first: then it would be no reset

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            while call := _read_call(self.rfile, self.wfile):
                try:
                    reply = self.server.store.answer(call)
                except HangUp:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                self.wfile.write(reply.wire(call.method))
                if reply.sent is not None:
                    return


def _read_call(source: BufferedIOBase, sink: BufferedIOBase) -> Call | None:
    """Read a request; None at the end of the connection, and where something else than HTTP is spoken."""
    start = source.readline(65536).split()
    if len(start) != 3 or not start[2].startswith(b"HTTP/"):
        return None
    method, target, _ = (word.decode("latin-1") for word in start)
    headers = {}
    while (line := source.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        sink.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(iter(lambda: _read_chunk(source), b""))
    else:
        body = source.read(int(headers.get("content-length", 0)))
    return parse_call(method, target, headers, body)


def _read_chunk(source: BufferedIOBase) -> bytes:
    size = int(source.readline().partition(b";")[0], 16)
    chunk = source.read(size)
    source.readline()
    return chunk
