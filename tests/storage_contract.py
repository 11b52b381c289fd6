"""What `unet_ray.storage` promises of every place, local or S3.

The test modules that import these tests bring a fixture ``root``: the URI of an existing, empty place.
"""

import io
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unet_ray import storage
from unet_ray.errors import ChangedError, ExistsError, NotFoundError
from unet_ray.object_file import ObjectFile, send_file

NAMES = [
    "plain.png",
    "two words.png",
    " lead and trail ",
    "a%20b.png",
    "50%.png",
    "%2F",
    "a+b.png",
    "a=b&c;d,e.png",
    "clip#12.png",
    "what?x=1.png",
    "_plan.json",
    ".hidden",
    "~home",
    "dots...",
    "back\\slash",
    "!$'\"()*[]{}|^`<>:@.png",
    "caf\u00e9.png",
    unicodedata.normalize("NFD", "caf\u00e9.png"),
    "\u6f22\u5b57/\U0001f600.png",
    "deep/er/and/deeper.png",
    "x" * 255,
]


def keys(root: str) -> list[str]:
    return sorted(found.key for found in storage.list_objects(root))


def test_an_object_reads_back_as_it_was_created(root: str) -> None:
    uri = storage.join(root, "a", "b.bin")
    assert storage.create(uri, bytes(range(256))) is True
    assert storage.read_bytes(uri) == bytes(range(256))


def test_an_empty_object_is_an_object(root: str) -> None:
    uri = storage.join(root, "empty")
    storage.create(uri, b"")
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b""
    assert keys(root) == ["empty"]


def test_creating_again_with_the_same_bytes_says_that_they_were_there(root: str) -> None:
    uri = storage.join(root, "seal.json")
    assert storage.create(uri, b"same") is True
    assert storage.create(uri, b"same") is False


def test_creating_again_with_other_bytes_is_refused_and_changes_nothing(root: str) -> None:
    uri = storage.join(root, "seal.json")
    storage.create(uri, b"first")
    with pytest.raises(
        ExistsError, match=r"seal\.json: an object with other content is there \(5 bytes, not these 6\)"
    ):
        storage.create(uri, b"second")
    assert storage.read_bytes(uri) == b"first"


def test_of_racing_writers_of_the_same_bytes_one_creates_and_the_others_find(root: str) -> None:
    assert race(storage.join(root, "seal.json"), [b"same"] * 8) == [False] * 7 + [True]


def test_of_racing_writers_of_other_bytes_one_wins_and_its_bytes_stay(root: str) -> None:
    uri, contents = storage.join(root, "seal.json"), [b"writer %d" % number for number in range(8)]
    outcomes = race(uri, contents)
    assert outcomes.count(True) == 1
    assert outcomes.count(ExistsError) == 7
    assert storage.read_bytes(uri) in contents


def test_a_single_writer_that_looks_first_is_told_the_same(root: str) -> None:
    uri = storage.join(root, "a", "seal.json")
    assert storage.create(uri, b"first", exclusive=False) is True
    assert storage.create(uri, b"first", exclusive=False) is False
    with pytest.raises(ExistsError, match="an object with other content is there"):
        storage.create(uri, b"second", exclusive=False)
    assert storage.read_bytes(uri) == b"first"


def test_the_check_for_create_only_writes_passes_again_and_again(root: str) -> None:
    storage.check_output(root)
    [probe] = storage.list_objects(root)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(storage.check_output, [root] * 4))
    assert [probe] == list(storage.list_objects(root))
    assert probe.key == "_PROBE"


def race(uri: str, contents: list[bytes]) -> list[bool | type[ExistsError]]:
    barrier = threading.Barrier(len(contents))

    def create(content: bytes) -> bool | type[ExistsError]:
        barrier.wait()
        try:
            return storage.create(uri, content)
        except ExistsError:
            return ExistsError

    with ThreadPoolExecutor(len(contents)) as pool:
        return sorted(pool.map(create, contents), key=str)


def test_write_replaces(root: str) -> None:
    uri = storage.join(root, "a", "history.json")
    storage.write(uri, b"old and longer")
    storage.write(uri, b"new")
    assert storage.read_bytes(uri) == b"new"
    assert keys(root) == ["a/history.json"]


def test_readers_of_a_replaced_object_see_one_content_or_the_other(root: str) -> None:
    uri, contents = storage.join(root, "history.json"), [b"a" * 300_000, b"b" * 300_000]
    storage.write(uri, contents[0])
    with ThreadPoolExecutor(1) as pool:
        writes = [pool.submit(storage.write, uri, content) for content in contents * 5]
        while not all(done.done() for done in writes):
            assert storage.read_bytes(uri) in contents


def test_a_deleted_object_is_gone_and_may_be_deleted_again(root: str) -> None:
    uri = storage.join(root, "a", "b")
    storage.create(uri, b"x")
    storage.delete(uri)
    storage.delete(uri)
    assert not storage.exists(uri)
    assert keys(root) == []


def test_a_folder_is_not_an_object(root: str) -> None:
    storage.create(storage.join(root, "folder", "x"), b"x")
    assert not storage.exists(storage.join(root, "folder"))


@pytest.mark.parametrize("name", ["missing", "no/such/folder/x"])
def test_reading_what_is_not_there_says_so(root: str, name: str) -> None:
    uri = storage.join(root, name)
    with pytest.raises(NotFoundError, match=f"could not read {uri}: there is no such"):
        storage.read_bytes(uri)


def test_a_span_is_read_and_held_to_the_tag_as_the_whole_is(root: str) -> None:
    uri = storage.join(root, "a", "b.bin")
    storage.write(uri, bytes(range(256)))
    etag = storage.look_up(uri).etag
    assert storage.read_bytes(uri, etag=etag, span=(10, 20)) == bytes(range(10, 20))
    assert storage.read_bytes(uri, span=(0, 256)) == bytes(range(256))
    storage.write(uri, bytes(300))
    with pytest.raises(ChangedError, match="changed since it was listed"):
        storage.read_bytes(uri, etag=etag, span=(10, 20))


def test_an_object_is_looked_up_as_it_is_listed(root: str) -> None:
    storage.write(storage.join(root, "folder", "a"), b"12345")
    [listed] = storage.list_objects(storage.join(root, "folder"))
    assert storage.look_up(listed.uri) == listed
    for name in ("folder", "none"):
        with pytest.raises(NotFoundError, match="could not look up"):
            storage.look_up(storage.join(root, name))


def test_a_file_over_an_object_reads_from_anywhere(root: str) -> None:
    content = bytes(range(256)) * 40
    storage.write(storage.join(root, "a"), content)
    with io.BufferedReader(ObjectFile(storage.look_up(storage.join(root, "a"))), 1000) as file:
        assert file.read(3) == content[:3]
        assert file.seek(-5, io.SEEK_END) == len(content) - 5
        assert file.read() == content[-5:]
        assert file.read(1) == b""
        file.seek(2)
        assert file.read() == content[2:]
        file.seek(len(content) + 7)
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="byte -1 is before the start"):
            file.raw.seek(-1)


@pytest.mark.parametrize("times", [0, 1, 40_000])
def test_a_file_is_sent_whole_and_replaces_what_is_there(root: str, times: int, tmp_path_factory: Any) -> None:
    file, uri = Path(tmp_path_factory.mktemp("local"), "file"), storage.join(root, "deep/er.bin")
    storage.write(uri, b"what was there")
    file.write_bytes(bytes(range(256)) * times)
    send_file(file, uri)
    assert storage.read_bytes(uri) == file.read_bytes()
    assert keys(root) == ["deep/er.bin"]


def test_names_are_kept_to_the_byte(root: str) -> None:
    for name in NAMES:
        assert storage.create(storage.join(root, name), name.encode()) is True
    found = {info.key: info for info in storage.list_objects(root)}
    assert sorted(found) == sorted(NAMES)
    for name in NAMES:
        assert found[name].uri == storage.join(root, name)
        assert storage.exists(found[name].uri)
        assert storage.read_bytes(found[name].uri) == name.encode()
    for name in NAMES:
        storage.delete(found[name].uri)
    assert keys(root) == []


def test_a_listing_is_of_a_folder_and_not_of_a_prefix(root: str) -> None:
    for key in ("img/a", "img/b/c", "img2/x", "img.txt"):
        storage.create(storage.join(root, key), b"x")
    assert keys(storage.join(root, "img")) == ["a", "b/c"]
    assert keys(storage.join(root, "img/")) == ["a", "b/c"]


def test_a_listing_gives_sizes_and_tags_that_follow_the_content(root: str) -> None:
    uri = storage.join(root, "a")
    storage.write(uri, b"12345")
    [before] = storage.list_objects(root)
    [again] = storage.list_objects(root)
    storage.write(uri, b"123456")
    [after] = storage.list_objects(root)
    assert (before.size_bytes, after.size_bytes) == (5, 6)
    assert before == again
    assert before.etag != after.etag


def test_twenty_megabytes_pass_in_one_request(root: str) -> None:
    uri, content = storage.join(root, "large.bin"), bytes(range(256)) * 78_125
    assert storage.create(uri, content) is True
    assert storage.create(uri, content) is False
    assert storage.read_bytes(uri) == content


def test_parquet_written_with_arrow_is_listed_and_read_by_the_other_clients(root: str) -> None:
    table = pa.table({"row_id": list(range(1000))})
    uri = storage.join(root, "part 1.parquet")
    filesystem, path = storage.arrow_filesystem(uri)
    pq.write_table(table, path, filesystem=filesystem)
    assert keys(root) == ["part 1.parquet"]
    assert pq.read_table(pa.BufferReader(storage.read_bytes(uri))).equals(table)


def test_parquet_written_whole_is_read_with_arrow(root: str) -> None:
    table, sink = pa.table({"row_id": list(range(1000))}), pa.BufferOutputStream()
    pq.write_table(table, sink)
    uri = storage.join(root, "data/0001.parquet")
    storage.create(uri, sink.getvalue().to_pybytes())
    filesystem, path = storage.arrow_filesystem(uri)
    assert pq.read_table(path, filesystem=filesystem).equals(table)
