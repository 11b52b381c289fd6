"""What the faults of a store become for those who read and write through `storage`."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.memory_s3 import Reply
from tests.faults.store import Act, Answer, Apply, FaultStore, Reset, Rule, Stall, Truncate
from unet_ray import storage
from unet_ray.errors import AccessError, ExistsError, NotFoundError, StorageError, TransientError
from unet_ray.faults import outlast, translated

URI = "s3://bucket/in/object"


def arrow_read(uri: str) -> bytes:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("read", uri), filesystem.open_input_file(path) as file:
        content: bytes = file.read()
        return content


def arrow_stream(uri: str) -> bytes:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("read", uri), filesystem.open_input_stream(path) as file:
        content: bytes = file.read()
        return content


def parquet(uri: str) -> bytes:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("read", uri):
        sink = pa.BufferOutputStream()
        pq.write_table(pq.read_table(path, filesystem=filesystem), sink)
        content: bytes = sink.getvalue().to_pybytes()
        return content


def list_parent(uri: str) -> list[storage.ObjectInfo]:
    return list(storage.list_objects(uri.rpartition("/")[0]))


def create(uri: str) -> bool:
    return storage.create(f"{uri}-new", b"content")


def write(uri: str) -> None:
    storage.write(f"{uri}-new", b"content")


ARROW = (arrow_read, arrow_stream)
READS = (storage.read_bytes, *ARROW)
ALL = (*READS, storage.exists, list_parent, create, write, storage.delete)


@pytest.fixture(params=[5, 200_000], ids=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    return os.urandom(request.param)


@pytest.fixture
def filled(store: FaultStore, content: bytes) -> FaultStore:
    storage.write(URI, content)
    store.clear_log()
    return store


def fault_of(use: Callable[[str], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        use(URI)
    return caught.value


PERMANENT = {
    "AccessDenied": (AccessError, "the store refused access", "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": (AccessError, "the session token has expired or is wrong", "renew AWS_SESSION"),
}


@pytest.mark.parametrize("use", ALL)
@pytest.mark.parametrize("code", PERMANENT)
def test_a_refusal_has_its_class_and_hint_whoever_meets_it(
    filled: FaultStore, use: Callable[[str], object], code: str
) -> None:
    filled.rules = [Rule(act=Answer(code))]
    error = fault_of(use)
    kind, rule, hint = PERMANENT[code]
    assert type(error) is kind
    assert re.match(r"could not (read|look up|list|create|write|delete) s3://bucket/in", str(error))
    assert f": {rule} (" in str(error)
    assert hint in str(error)
    assert len(filled.log) <= 4


@pytest.mark.parametrize("use", READS)
@pytest.mark.parametrize(
    ("code", "kind", "rule"),
    [(code, kind, rule) for code, (kind, rule, _) in PERMANENT.items()]
    + [("NoSuchKey", NotFoundError, "there is no such object")],
)
def test_a_refused_read_after_a_successful_look_has_its_class(
    filled: FaultStore, use: Callable[[str], object], code: str, kind: type[StorageError], rule: str
) -> None:
    filled.rules = [Rule(act=Answer(code), operation="get")]
    error = fault_of(use)
    assert type(error) is kind
    assert str(error).startswith(f"could not read {URI}: {rule} (")


@pytest.mark.parametrize("code", PERMANENT)
def test_a_refusal_within_a_parquet_file_has_its_class(store: FaultStore, code: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(30_000))}), sink)
    storage.write(URI, sink.getvalue().to_pybytes())
    for nth in (1, 2):  # the footer, then the column
        store.rules = [Rule(act=Answer(code), operation="get", nth=nth, times=10)]
        assert type(fault_of(parquet)) is AccessError
    store.rules = []
    assert parquet(URI) == sink.getvalue().to_pybytes()


@pytest.mark.parametrize("use", [*READS, storage.exists])
def test_what_is_gone_is_not_found(store: FaultStore, use: Callable[[str], object]) -> None:
    if use is storage.exists:
        assert not storage.exists(URI)
    else:
        assert type(fault_of(use)) is NotFoundError


def test_a_request_the_store_does_not_know_is_no_transient_error(store: FaultStore) -> None:
    store.rules = [Rule(act=Answer("NotImplemented"))]
    told = {use: fault_of(use) for use in (create, write)}
    assert {type(error) for error in told.values()} == {StorageError}
    assert "the store knows no create-only writes (If-None-Match); --run.single_writer true does" in str(told[create])
    assert "the store knows no such requests; check AWS_ENDPOINT_URL (501 NotImplemented)" in str(told[write])


def test_a_web_page_is_no_listing(store: FaultStore) -> None:
    store.rules = [Rule(act=lambda apply: Reply(200, b"<html>hello</html>"), operation="list")]
    with pytest.raises(StorageError, match=r"could not list s3://bucket/in: what answers there is no S3 store; check"):
        list_parent(URI)


BAD_DAY = [
    Rule(act=Answer("SlowDown"), probability=0.05),
    Rule(act=Reset(), probability=0.01),
    Rule(act=Reset(after=True), probability=0.01),
    Rule(act=Stall(2), probability=0.01),
]


def test_on_a_bad_day_everything_completes_with_the_right_content(
    store: FaultStore, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = {f"{number:03}": os.urandom(5_000) for number in range(960)}
    for key, frame in frames.items():
        storage.write(f"s3://bucket/in/{key}", frame)
    store.latency_s = 0.02

    def read(key: str) -> bytes:
        way = arrow_read if key.endswith("7") else storage.read_bytes
        return outlast(lambda: way(f"s3://bucket/in/{key}"))

    def seconds(run: str) -> float:
        """Read ahead, compute, write behind, as the stages do."""
        start = time.monotonic()
        with ThreadPoolExecutor(8) as readers, ThreadPoolExecutor(8) as writers:
            written = []
            for key, frame in zip(frames, readers.map(read, frames), strict=True):
                assert frame == frames[key]
                time.sleep(0.015)  # what a network takes for a frame
                uri = f"s3://bucket/{run}/{key}"
                written.append(writers.submit(outlast, partial(storage.create, uri, frame[::-1])))
            for done in written:
                done.result()
        assert {info.key for info in outlast(lambda: list(storage.list_objects(f"s3://bucket/{run}")))} == set(frames)
        return time.monotonic() - start

    calm = seconds("calm")
    store.clear_log()
    store.rules = BAD_DAY
    bad = seconds("bad")
    told = [request.status for request in store.log]
    assert told.count(503) > 10
    assert told.count(0) > 2
    objects = store.objects
    assert all(objects[f"bucket/{run}/{key}"] == frames[key][::-1] for run in ("calm", "bad") for key in frames)
    with capsys.disabled():
        faults = f"{told.count(503)} x 503, {told.count(0)} resets"
        print(f"\ncalm {calm:.1f} s, bad day {bad:.1f} s ({faults}): {bad / calm:.2f} x")  # noqa: T201


@pytest.mark.parametrize("use", READS)
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_short_body_is_read_again(
    filled: FaultStore, content: bytes, use: Callable[[str], bytes], share: float
) -> None:
    filled.rules = [Rule(act=Truncate(share), operation="get", times=1)]
    assert use(URI) == content


def test_bodies_that_stay_short_are_a_transient_error(filled: FaultStore) -> None:
    filled.rules = [Rule(act=Truncate(0), operation="get")]
    with ThreadPoolExecutor(len(READS)) as pool:
        assert [type(error) for error in pool.map(fault_of, READS)] == [TransientError] * len(READS)


def test_a_short_body_of_a_key_that_obstore_cannot_express_is_a_transient_error(store: FaultStore) -> None:
    from unet_ray import s3

    s3.s3fs_client().call_s3("put_object", Bucket="bucket", Key="in//object", Body=b"content")
    store.rules = [Rule(act=Truncate(), operation="get", times=1)]
    assert outlast(lambda: storage.read_bytes("s3://bucket/in//object")) == b"content"
    store.rules = [Rule(act=Truncate(), operation="get")]
    with pytest.raises(TransientError):
        storage.read_bytes("s3://bucket/in//object")


def test_a_body_is_never_of_two_versions(store: FaultStore) -> None:
    versions = [bytes([number]) * 100_000 for number in range(2)]
    storage.write(URI, versions[0])

    def cut_and_replace(apply: Apply) -> Reply:
        reply = apply()
        storage.write(URI, versions[1])
        return replace(reply, sent=len(reply.body) // 2)

    store.rules = [Rule(act=cut_and_replace, operation="get", nth=1)]
    assert outlast(lambda: storage.read_bytes(URI)) in versions


LOST: list[Act] = [
    Reset(),
    Reset(after=True),
    Answer("SlowDown", after=True),
    Answer("InternalError", after=True),
]


@pytest.mark.parametrize("act", LOST, ids=str)
def test_a_lost_reply_is_no_other_writer(store: FaultStore, act: Act) -> None:
    store.rules = [Rule(act=act, operation="put", times=2)]
    assert storage.create(URI, b"ours") is (act == Reset())
    assert storage.create(URI, b"ours") is False
    assert store.objects == {"bucket/in/object": b"ours"}


@pytest.mark.parametrize("act", LOST, ids=str)
def test_another_writer_is_found_in_spite_of_lost_replies(store: FaultStore, act: Act) -> None:
    storage.create(URI, b"theirs")
    store.rules = [Rule(act=act, times=2)]
    with pytest.raises(ExistsError):
        storage.create(URI, b"ours")
    assert store.objects == {"bucket/in/object": b"theirs"}


def test_of_racing_writers_one_wins_in_spite_of_lost_replies(store: FaultStore) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> bool:
        barrier.wait()
        try:
            outlast(lambda: storage.create(URI, b"writer %d" % number))
        except ExistsError:
            return False
        return True

    store.rules = [Rule(act=act, operation="put", probability=0.1) for act in LOST]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            won = list(pool.map(attempt, range(8)))
            assert store.objects == {"bucket/in/object": b"writer %d" % won.index(True)}
            assert won.count(True) == 1
            store.clear()


@pytest.mark.parametrize("act", [Reset(), Reset(after=True), Answer("SlowDown")], ids=str)
def test_a_deletion_is_repeated(store: FaultStore, act: Act) -> None:
    storage.write(URI, b"content")
    store.rules = [Rule(act=act, operation="delete_many", times=2)]
    storage.delete(URI)
    assert store.objects == {}


@pytest.mark.parametrize("act", [Answer("SlowDown"), Reset()], ids=str)
def test_an_outage_that_a_client_gives_up_on_is_outlasted(
    store: FaultStore, act: Act, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write(URI, b"content")
    store.rules = [Rule(act=act, times=10)]  # obstore tries nine times
    with caplog.at_level(logging.WARNING):
        assert outlast(lambda: storage.read_bytes(URI), seconds=60) == b"content"
    [warning] = [record.getMessage() for record in caplog.records if record.name == "unet_ray.faults"]
    assert re.fullmatch(rf"could not read {URI}: .*also after retries; .*; trying again", warning)


def test_an_outage_is_not_outlasted_at_first_contact_nor_for_ever(store: FaultStore) -> None:
    store.rules = [Rule(act=Answer("SlowDown"))]
    with pytest.raises(TransientError):
        storage.read_bytes(URI)
    assert len(store.log) == 9
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        raise TransientError("out of order")

    with pytest.raises(TransientError):
        outlast(work, seconds=0.2)
    assert len(calls) > 1


@pytest.mark.parametrize("use", [storage.read_bytes, arrow_read, list_parent, create])
def test_credentials_that_expire_in_the_middle_of_a_job_end_it_at_once(
    store: FaultStore, use: Callable[[str], object]
) -> None:
    storage.write(URI, b"content")
    use(URI)
    store.clear_log()
    store.rules = [Rule(act=Answer("ExpiredToken"))]
    with pytest.raises(AccessError, match="renew AWS_SESSION_TOKEN"):
        outlast(lambda: use(URI))
    assert len(store.log) <= 4


def test_a_store_that_honours_create_only_writes_passes_the_check_and_keeps_the_probe(store: FaultStore) -> None:
    storage.check_output("s3://bucket/runs/1")
    [(key, content)] = store.objects.items()
    assert key == "bucket/runs/1/_PROBE"
    for act in LOST:
        store.rules = [Rule(act=act, operation="put", times=1)]
        storage.check_output("s3://bucket/runs/1")
    assert store.objects == {key: content}


def test_a_store_that_ignores_create_only_writes_is_refused_with_the_way_out(store: FaultStore) -> None:
    store.honours_if_none_match = False
    told = (
        r"the store of s3://bucket/runs/1 ignores create-only writes \(If-None-Match\): the second write of s3://bucket/"
        r"runs/1/_PROBE replaced the first, .* promise that only one driver writes, with --run\.single_writer true"
    )
    for act in (None, *LOST):
        store.rules = [Rule(act=act, operation="put", nth=2)] if act else []
        with pytest.raises(StorageError, match=told):
            storage.check_output("s3://bucket/runs/1")
    store.honours_if_none_match = True
    store.rules = []
    storage.check_output("s3://bucket/runs/1")


def test_a_store_that_knows_no_create_only_writes_is_refused_with_the_way_out(store: FaultStore) -> None:
    store.rules = [Rule(act=Answer("NotImplemented"), operation="put")]
    with pytest.raises(StorageError, match=r"knows no create-only writes .*--run\.single_writer true"):
        storage.check_output("s3://bucket/runs/1")


def test_a_single_writer_creates_in_a_store_that_ignores_create_only_writes(store: FaultStore) -> None:
    store.honours_if_none_match = False
    assert storage.create(URI, b"ours", exclusive=False) is True
    for act in (None, *LOST):
        store.rules = [Rule(act=act, operation="put", times=1)] if act else []
        assert storage.create(URI, b"ours", exclusive=False) is False
        with pytest.raises(ExistsError):
            storage.create(URI, b"others", exclusive=False)
        assert storage.create(f"{URI}-{act}", b"ours", exclusive=False) is True
    assert set(store.objects.values()) == {b"ours"}
