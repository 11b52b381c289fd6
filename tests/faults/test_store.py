"""The store against the three real clients: the contract of `storage`, then each act."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import obstore
import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import S3Store
from pyarrow import fs
from pyarrow.fs import AwsStandardS3RetryStrategy
from s3fs import S3FileSystem

from tests.faults.store import Act, Answer, FaultStore, FlipBit, Hide, Kill, Reset, Rule, Stall, Truncate
from tests.storage_contract import *  # noqa: F403
from tests.storage_contract import keys
from unet_ray import s3, storage

FAILURES = (OSError, GenericError, PermissionDeniedError, BotoCoreError, ClientPayloadError)
CONTENT = bytes(range(256)) * 4


@pytest.fixture
def root(store: FaultStore) -> str:
    return "s3://bucket/runs/1"


@pytest.fixture
def filled(store: FaultStore) -> FaultStore:
    storage.write("s3://bucket/a", CONTENT)
    storage.write("s3://bucket/b", b"")
    store.clear_log()
    return store


@pytest.fixture
def rash(store: FaultStore) -> S3Store:
    """Give an obstore client that never tries again."""
    return client_without_retries(store)


def client_without_retries(store: FaultStore) -> S3Store:
    return S3Store(
        "bucket",
        config={"endpoint": store.endpoint, "access_key_id": "tester", "secret_access_key": "secret"},
        client_options={"allow_http": True, "read_timeout": "2s"},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    )


def with_obstore(store: FaultStore, rash: S3Store) -> bytes:
    return obstore.get(rash, "a").bytes().to_bytes()


def with_s3fs(store: FaultStore, rash: S3Store) -> bytes:
    limits = {"retries": {"total_max_attempts": 1}, "read_timeout": 2}
    client = S3FileSystem(endpoint_url=store.endpoint, config_kwargs=limits, skip_instance_cache=True)
    client.retries = 1
    content: bytes = client.cat_file("bucket/a")
    return content


def with_pyarrow(store: FaultStore, rash: S3Store) -> bytes:
    once = AwsStandardS3RetryStrategy(max_attempts=1)
    client = fs.S3FileSystem(endpoint_override=store.endpoint, retry_strategy=once, request_timeout=2)
    with client.open_input_stream("bucket/a") as stream:
        content: bytes = stream.read()
        return content


clients = pytest.mark.parametrize("read", [with_obstore, with_s3fs, with_pyarrow])
Read = Callable[[FaultStore, S3Store], bytes]


def test_objects_and_log_tell_what_the_clients_did(store: FaultStore) -> None:
    storage.create("s3://bucket/a b%20", b"x")
    storage.read_bytes("s3://bucket/a b%20")
    storage.exists("s3://bucket/none")
    assert keys("s3://bucket/a b") == []
    assert store.objects == {"bucket/a b%20": b"x"}
    assert [(request.number, request.operation, request.key, request.status) for request in store.log] == [
        (1, "put", "bucket/a b%20", 200),
        (2, "get", "bucket/a b%20", 200),
        (3, "head", "bucket/none", 404),
        (4, "list", "bucket/a b/", 200),
    ]
    store.clear_log()
    storage.delete("s3://bucket/a b%20")
    assert [(request.number, request.operation, request.key) for request in store.log] == [
        (1, "delete_many", "bucket/a b%20")
    ]
    assert store.objects == {}


def test_a_listing_has_pages_and_folders(store: FaultStore) -> None:
    client = s3.s3fs_client()
    for key in ("a", "d/1", "d/2", "d/e/3", "z"):
        storage.write(f"s3://bucket/in/{key}", b"x")
    found, request = [], {"Bucket": "bucket", "Prefix": "in/", "Delimiter": "/", "MaxKeys": 1}
    while True:
        page = client.call_s3("list_objects_v2", **request)
        found += [entry["Key"] for entry in page.get("Contents", ())]
        found += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
        if not page["IsTruncated"]:
            break
        request["ContinuationToken"] = page["NextContinuationToken"]
    assert found == ["in/a", "in/d/", "in/z"]
    assert sorted(info.path for info in s3.arrow_client().get_file_info(fs.FileSelector("bucket/in"))) == [
        "bucket/in/a",
        "bucket/in/d",
        "bucket/in/z",
    ]


def test_parts_of_an_object_are_read(filled: FaultStore, rash: S3Store) -> None:
    assert obstore.get_range(rash, "a", start=10, end=20).to_bytes() == CONTENT[10:20]
    assert obstore.get(rash, "a", options={"range": {"offset": 1000}}).bytes().to_bytes() == CONTENT[1000:]
    assert obstore.get(rash, "a", options={"range": {"suffix": 7}}).bytes().to_bytes() == CONTENT[-7:]
    with s3.arrow_client().open_input_file("bucket/a") as file:
        assert file.read_at(5, 100) == CONTENT[100:105]


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_uploads_in_parts_are_open_until_completed(
    store: FaultStore, monkeypatch: pytest.MonkeyPatch, checksums: str
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", checksums)
    large = CONTENT * 12_000
    client = fs.S3FileSystem(endpoint_override=store.endpoint)
    with client.open_output_stream("bucket/large") as stream:
        stream.write(large)
        stream.flush()
        assert store.uploads() == ["bucket/large"]
    assert store.uploads() == []
    assert store.objects["bucket/large"] == large
    operations = [request.operation for request in store.log]
    assert operations[0] == "create_upload"
    assert set(operations[1:-1]) == {"put_part"}
    assert operations[-1] == "complete"


def test_objects_are_copied_and_deleted_together(filled: FaultStore, rash: S3Store) -> None:
    obstore.copy(rash, "a", "copy of a")
    s3.arrow_client().copy_file("bucket/a", "bucket/second")
    assert filled.objects["bucket/copy of a"] == filled.objects["bucket/second"] == CONTENT
    s3.s3fs_client().rm(["bucket/a", "bucket/copy of a"])
    obstore.delete(rash, ["b", "second"])
    assert filled.objects == {}


def test_a_snapshot_is_restored_as_often_as_needed(filled: FaultStore) -> None:
    before, snapshot = filled.objects, filled.snapshot()
    for _ in range(2):
        storage.delete("s3://bucket/a")
        storage.write("s3://bucket/b", b"more")
        filled.restore(snapshot)
        assert filled.objects == before
    filled.clear()
    assert filled.objects == {}
    storage.write("s3://bucket/a", b"the bucket is still there")


def test_a_store_may_ignore_create_only(filled: FaultStore) -> None:
    filled.honours_if_none_match = False
    assert storage.create("s3://bucket/a", b"second") is True
    assert filled.objects["bucket/a"] == b"second"


def test_a_write_may_depend_on_what_is_there(filled: FaultStore) -> None:
    client = s3.s3fs_client()
    etag = client.call_s3("head_object", Bucket="bucket", Key="a")["ETag"]
    client.call_s3("put_object", Bucket="bucket", Key="a", Body=b"second", IfMatch=etag)
    with pytest.raises(OSError, match="PreconditionFailed"):
        client.call_s3("put_object", Bucket="bucket", Key="a", Body=b"third", IfMatch=etag)
    assert filled.objects["bucket/a"] == b"second"


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        (Rule(act=Answer("SlowDown")), [1, 2, 3, 4, 5, 6]),
        (Rule(act=Answer("SlowDown"), operation="put"), []),
        (Rule(act=Answer("SlowDown"), operation="get", key="b$"), [2, 4, 6]),
        (Rule(act=Answer("SlowDown"), nth=2), [2]),
        (Rule(act=Answer("SlowDown"), times=2), [1, 2]),
        (Rule(act=Answer("SlowDown"), nth=2, times=3), [2, 3, 4]),
        (Rule(act=Answer("SlowDown"), key="b$", nth=2, times=5), [4, 6]),
        (Rule(act=Answer("SlowDown"), probability=0.0), []),
    ],
)
def test_a_rule_is_about_some_requests(filled: FaultStore, rash: S3Store, rule: Rule, failed: list[int]) -> None:
    filled.rules = [rule]
    for key in "ab" * 3:
        with suppress(GenericError):
            obstore.get(rash, key).bytes()
    assert [request.number for request in filled.log if request.status == 503] == failed
    assert len(filled.log) == 6


def test_setting_the_rules_counts_anew_and_the_first_that_fires_wins(filled: FaultStore, rash: S3Store) -> None:
    rules = [Rule(act=Answer("SlowDown"), nth=2), Rule(act=Answer("AccessDenied"), nth=2, times=2)]
    for _ in range(2):
        filled.rules = rules
        for expected in (None, GenericError, PermissionDeniedError, None):
            if expected is None:
                obstore.get(rash, "a").bytes()
            else:
                with pytest.raises(expected):
                    obstore.get(rash, "a")


def test_chance_is_that_of_the_seed() -> None:
    def statuses(seed: int) -> list[int]:
        with FaultStore(seed=seed) as store:
            store.rules = [Rule(act=Answer("AccessDenied"), probability=0.3)]
            client = client_without_retries(store)
            for _ in range(100):
                with suppress(PermissionDeniedError):
                    obstore.delete(client, "x")
            return [request.status for request in store.log]

    assert statuses(1) == statuses(1) != statuses(2)
    assert 10 < statuses(1).count(403) < 50


@clients
@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "AccessDenied", "ExpiredToken", "NotImplemented"])
def test_an_error_is_answered(filled: FaultStore, rash: S3Store, read: Read, code: str) -> None:
    filled.rules = [Rule(act=Answer(code), operation="get")]
    with pytest.raises(FAILURES):
        read(filled, rash)


@clients
@pytest.mark.parametrize("act", [Reset(), Reset(after=True), Truncate(), Truncate(0)], ids=str)
def test_a_lost_or_short_answer_is_an_error(filled: FaultStore, rash: S3Store, read: Read, act: Act) -> None:
    filled.rules = [Rule(act=act, operation="get")]
    with pytest.raises(FAILURES):
        read(filled, rash)
    filled.rules = []
    assert read(filled, rash) == CONTENT


@clients
def test_a_flipped_bit_passes(filled: FaultStore, rash: S3Store, read: Read) -> None:
    filled.rules = [Rule(act=FlipBit(), operation="get", nth=1)]
    got = read(filled, rash)
    assert got[:512] + bytes([got[512] ^ 1]) + got[513:] == CONTENT
    assert read(filled, rash) == CONTENT


def test_a_stall_lasts_and_then_all_goes_on(filled: FaultStore, rash: S3Store) -> None:
    filled.rules = [Rule(act=Stall(0.3), operation="get", nth=1)]
    start = time.monotonic()
    assert with_obstore(filled, rash) == CONTENT
    assert time.monotonic() - start >= 0.3


def test_a_hidden_key_is_not_listed_but_read(filled: FaultStore, rash: S3Store) -> None:
    filled.rules = [Rule(act=Hide("^a$"), operation="list", times=1)]
    assert keys("s3://bucket") == ["b"]
    assert with_obstore(filled, rash) == CONTENT
    assert keys("s3://bucket") == ["a", "b"]


@pytest.mark.parametrize(
    ("act", "applied"),
    [
        (Answer("SlowDown"), False),
        (Answer("SlowDown", after=True), True),
        (Reset(), False),
        (Reset(after=True), True),
        (Kill(lambda: None), False),
        (Kill(lambda: None, after=True), True),
    ],
    ids=str,
)
def test_an_act_is_before_or_after_the_request_is_applied(
    store: FaultStore, rash: S3Store, act: Act, applied: bool
) -> None:
    store.rules = [Rule(act=act, operation="put")]
    with pytest.raises(GenericError):
        obstore.put(rash, "x", b"content", use_multipart=False)
    assert store.objects == ({"bucket/x": b"content"} if applied else {})


@pytest.mark.parametrize("after", [False, True])
def test_a_client_is_killed_at_a_request(store: FaultStore, after: bool) -> None:
    script = "from unet_ray import storage\nfor key in 'abc': storage.create(f's3://bucket/{key}', b'x')"
    clients: list[subprocess.Popen[bytes]] = []
    store.rules = [
        Rule(act=Kill(lambda: os.killpg(clients[0].pid, signal.SIGKILL), after=after), operation="put", nth=2)
    ]
    clients.append(subprocess.Popen([sys.executable, "-c", script], start_new_session=True))
    assert clients[0].wait(20) == -signal.SIGKILL
    assert set(store.objects) == ({"bucket/a", "bucket/b"} if after else {"bucket/a"})
    assert [request.status for request in store.log] == [200, 0]


def test_after_the_end_of_the_store_nothing_answers(store: FaultStore) -> None:
    with FaultStore() as other:
        client = client_without_retries(other)
        obstore.put(client, "x", b"content", use_multipart=False)
    with pytest.raises(GenericError):
        obstore.get(client, "x")


def test_many_requests_at_once_are_all_answered(store: FaultStore) -> None:
    def one(number: int) -> bool:
        uri = f"s3://bucket/{number}"
        storage.write(uri, b"%d" % number)
        return storage.read_bytes(uri) == b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(500)))
    assert [request.number for request in store.log] == list(range(1, 1001))
