import http.server
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.s3server import S3Server
from tests.storage_contract import *  # noqa: F403
from tests.storage_contract import keys
from unet_ray import s3, storage
from unet_ray.errors import StorageError, TransientError
from unet_ray.faults import translated

UNKNOWN_TO_OBSTORE = ["two\nlines", "tab\t", "a//b", "/lead", "./a", "a/../b", "bell\x07", "del\x7f"]


@pytest.fixture
def root(s3_bucket: str) -> str:
    return f"{s3_bucket}/runs/1"


def arrow_read(uri: str) -> bytes:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("read", uri), filesystem.open_input_file(path) as file:
        content: bytes = file.read()
        return content


def arrow_write(uri: str, content: bytes = b"x") -> None:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("write", uri), filesystem.open_output_stream(path) as file:
        file.write(content)


def list_parent(uri: str) -> None:
    list(storage.list_objects(uri.rpartition("/")[0]))


def create(uri: str) -> None:
    storage.create(uri, b"x")


def write(uri: str) -> None:
    storage.write(uri, b"x")


READS = (storage.read_bytes, storage.exists, list_parent, arrow_read)
WRITES = (create, write, storage.delete, arrow_write)


def faults(uri: str, uses: tuple[Callable[[str], object], ...]) -> list[str]:
    """Give class and text of the error of each use, "None" where there is none; the uses run side by side."""

    def fault(use: Callable[[str], object]) -> str:
        try:
            use(uri)
        except StorageError as error:
            return f"{type(error).__name__}: {error}"
        return "None"

    with ThreadPoolExecutor(len(uses)) as pool:
        return list(pool.map(fault, uses))


def test_an_empty_prefix_of_a_bucket_lists_nothing(s3_bucket: str) -> None:
    assert list(storage.list_objects(f"{s3_bucket}/nothing")) == []


def test_a_listing_has_more_than_one_page(s3_bucket: str) -> None:
    names = {f"{number:04}" for number in range(1010)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write(f"{s3_bucket}/many/{name}", b""), names))
    found = [info.key for info in storage.list_objects(f"{s3_bucket}/many")]
    assert len(found) == 1010
    assert set(found) == names


def test_keys_that_stand_for_folders_are_not_listed(s3_bucket: str) -> None:
    filesystem, path = storage.arrow_filesystem(f"{s3_bucket}/folder")
    filesystem.create_dir(path)
    storage.create(f"{s3_bucket}/folder/a", b"x")
    assert keys(f"{s3_bucket}/folder") == ["a"]
    assert keys(s3_bucket) == ["folder/a"]


@pytest.mark.parametrize("key", UNKNOWN_TO_OBSTORE)
def test_a_key_that_no_path_can_have_is_read_but_not_written(s3_bucket: str, s3_server: S3Server, key: str) -> None:
    if s3_server.kind == "moto" and "\n" in key:
        pytest.skip("moto has no newlines in keys")
    s3.s3fs_client().call_s3("put_object", Bucket=s3_bucket[5:], Key=f"in/{key}", Body=b"image")
    [found] = storage.list_objects(f"{s3_bucket}/in")
    assert (found.key, found.uri) == (key, f"{s3_bucket}/in/{key}")
    assert storage.exists(found.uri)
    assert storage.read_bytes(found.uri) == b"image"
    assert storage.look_up(found.uri).etag == found.etag
    assert storage.read_bytes(found.uri, etag=found.etag, span=(1, 3)) == b"ma"
    assert not storage.exists(f"{found.uri}.no")
    for use in (create, write, storage.delete):
        with pytest.raises(StorageError, match="only reading such keys is allowed"):
            use(found.uri)
    s3.s3fs_client().call_s3("delete_object", Bucket=s3_bucket[5:], Key=f"in/{key}")


def test_a_multipart_upload_of_arrow_arrives(s3_bucket: str) -> None:
    content = bytes(range(256)) * 50_000
    arrow_write(f"{s3_bucket}/large", content)
    [found] = storage.list_objects(s3_bucket)
    assert found.etag.endswith("-2")
    assert storage.read_bytes(found.uri) == content


def test_a_missing_bucket_is_told_from_a_missing_object(s3_bucket: str) -> None:
    [*told, arrow] = faults(f"{s3_bucket}-no/x", (storage.read_bytes, list_parent, *WRITES, arrow_read))
    for message in told:
        assert message.startswith("NotFoundError: could not ")
        assert "there is no such bucket" in message
    assert arrow.startswith("NotFoundError: ")
    assert not storage.exists(f"{s3_bucket}-no/x")


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_an_access_error(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    if s3_server.kind == "moto":
        pytest.skip("moto checks no credentials")
    monkeypatch.setenv(variable, "wrongwrongwrong")
    for message in faults(f"{s3_bucket}/x", READS + WRITES):
        assert message.startswith("AccessError: could not ")
        assert "the store refused access (" in message
        assert "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket" in message
        assert "wrongwrongwrong" not in message
        assert s3_server.secret_key not in message


def test_no_credentials_at_all_are_an_access_error(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, "/dev/null")
    for message in faults(f"{s3_bucket}/x", (storage.read_bytes, storage.exists, list_parent, create)):
        assert message.startswith("AccessError: could not ")
        assert message.endswith("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")


def test_all_clients_take_credentials_from_a_profile(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = f"aws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    (tmp_path / "credentials").write_text(f"[lab]\n{keys}")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert storage.create(f"{s3_bucket}/x", b"content") is True
    assert storage.read_bytes(f"{s3_bucket}/x") == arrow_read(f"{s3_bucket}/x") == b"content"
    assert [info.key for info in storage.list_objects(s3_bucket)] == ["x"]


def test_an_unreachable_endpoint_is_a_transient_error_within_seconds(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:password@127.0.0.1:1")
    for message in faults(f"{s3_bucket}/x", READS + WRITES):
        assert message.startswith("TransientError: could not ")
        assert "no answer from 127.0.0.1:1, also after retries; check AWS_ENDPOINT_URL and the network" in message


def test_without_an_endpoint_the_clients_are_those_of_aws(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_REQUEST_CHECKSUM_CALCULATION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "endpoint" not in s3.object_store("bucket").config
    assert s3.arrow_client().region == "eu-west-1"
    assert s3.s3fs_client().endpoint_url is None
    assert "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ


def test_a_pickled_file_system_holds_no_credentials(s3_bucket: str, s3_server: S3Server) -> None:
    shipped = pickle.dumps(storage.arrow_filesystem(s3_bucket)[0])
    assert s3_server.endpoint.encode() in shipped
    assert s3_server.secret_key.encode() not in shipped
    assert s3_server.access_key.encode() not in shipped


class Refuser(http.server.BaseHTTPRequestHandler):
    """A store whose answers are in the path of its endpoint: status and code to a PUT, then to all else."""

    def answer(self) -> None:
        _, put_status, put_code, status, code, *_ = self.path.split("/")
        if self.command == "PUT":
            status, code = put_status, put_code
        body = f"<Error><Code>{code}</Code><Token-0>secret-token</Token-0></Error>".encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refuse(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuser)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    yield lambda answers: monkeypatch.setenv("AWS_ENDPOINT_URL", f"{endpoint}/{answers}")
    server.shutdown()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            "400/ExpiredToken",
            r"AccessError: .* the session token has expired or is wrong \(.*\); renew AWS_SESSION",
        ),
        (
            "403/AccessDenied",
            r"AccessError: .* the store refused access \(.*AccessDenied\); check AWS_ACCESS",
        ),
        ("404/NoSuchBucket", r"NotFoundError: .* there is no such bucket \(.*NoSuchBucket\); check its name"),
        ("400/InvalidArgument", r"StorageError: .*\(.*InvalidArgument\)"),
    ],
)
def test_what_a_store_answers_becomes_an_error_of_ours(refuse: Callable[[str], None], answer: str, told: str) -> None:
    refuse(f"{answer}/{answer}")
    for message in faults("s3://bucket/x", (storage.read_bytes, list_parent, create)):
        assert re.match(told, message)
        assert "secret-token" not in message


def test_a_busy_store_is_a_transient_error_after_retries(refuse: Callable[[str], None]) -> None:
    refuse("503/SlowDown/500/InternalError")
    read, created = faults("s3://bucket/x", (storage.read_bytes, create))
    told = "TransientError: could not {} s3://bucket/x: the store is busy or failing ({}), also after retries"
    assert read.startswith(told.format("read", "500 InternalError"))
    assert created.startswith(told.format("create", "503 SlowDown"))


def test_a_bucket_of_another_region_is_told_with_the_variable_to_set(refuse: Callable[[str], None]) -> None:
    refuse("301/PermanentRedirect/301/PermanentRedirect")
    for message in faults("s3://bucket/x", (storage.read_bytes, create)):
        assert message.startswith("StorageError: could not ")
        assert "the bucket is in another region" in message
        assert "set AWS_REGION" in message


def test_a_writer_that_comes_between_is_a_transient_error(refuse: Callable[[str], None]) -> None:
    refuse("409/ConditionalRequestConflict/404/NoSuchKey")
    with pytest.raises(TransientError, match="could not create s3://bucket/x: another writer is at the same object"):
        create("s3://bucket/x")
