import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage_contract import *  # noqa: F403
from unet_ray import storage
from unet_ray.errors import AccessError, NotFoundError, StorageError, TransientError
from unet_ray.faults import translated


@pytest.fixture(params=["file URI", "relative path"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    return {"file URI": f"file://{tmp_path}/root", "relative path": "root"}[request.param]


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("runs", ("x", "y"), "runs/x/y"),
        ("s3://bucket", ("x",), "s3://bucket/x"),
        ("s3://bucket/", ("x/y",), "s3://bucket/x/y"),
        ("s3://bucket/a", ("/x",), "s3://bucket/a//x"),
        ("/", ("x",), "/x"),
        ("file:///", ("x",), "file:///x"),
        ("runs", (), "runs"),
    ],
)
def test_join_puts_one_slash_between_and_changes_nothing_else(uri: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(uri, *parts) == joined


@pytest.mark.parametrize(
    ("uri", "last"),
    [("s3://b/x/y.png", "y.png"), ("s3://b/x/", "x"), ("y.png", "y.png"), ("file:///a/b#c", "b#c")],
)
def test_name_is_the_last_component(uri: str, last: str) -> None:
    assert storage.name(uri) == last


def test_only_local_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("runs/a b%20") == f"{tmp_path}/runs/a b%20"
    assert storage.absolute("file:///data/x") == "/data/x"
    assert storage.absolute("/data/x/") == "/data/x"
    assert storage.absolute("s3://bucket/../x/") == "s3://bucket/../x/"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("~/runs", r"~/runs starts with '~', which is not expanded: write the home folder out"),
        ("~user", r"starts with '~'"),
        ("gs://bucket/x", r"the scheme of gs://bucket/x is not supported: use a local path, file:///"),
        ("s3:/bucket/x", r"the scheme of s3:/bucket/x is not supported"),
        ("file://host/x", r"file://host/x names a host: write file:///, with three slashes"),
        ("", r"a location is empty"),
    ],
)
def test_a_location_that_is_no_uri_of_ours_is_refused(uri: str, message: str) -> None:
    for use in (storage.absolute, storage.read_bytes, storage.exists, storage.delete):
        with pytest.raises(StorageError, match=message):
            use(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key"])
def test_a_bucket_must_be_named(uri: str) -> None:
    with pytest.raises(StorageError, match=f"{uri} names no bucket: write s3://bucket/key"):
        next(storage.list_objects(uri))


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_a_bucket_or_folder_is_not_taken_for_an_object(uri: str) -> None:
    for use in (storage.read_bytes, storage.exists, storage.delete):
        with pytest.raises(StorageError, match="names a bucket or a folder where an object is needed"):
            use(uri)


def test_an_endpoint_without_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL has no scheme: write http://host:port"):
        storage.exists("s3://bucket/x")


def test_listing_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"could not list {tmp_path}/none: there is no such file or folder"):
        list(storage.list_objects(f"{tmp_path}/none"))


def test_links_are_followed_and_a_dangling_one_is_listed_but_cannot_be_read(tmp_path: Path) -> None:
    storage.create(f"{tmp_path}/real/a.png", b"abc")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/folder").symlink_to(tmp_path / "real")
    (tmp_path / "root/file").symlink_to(tmp_path / "real/a.png")
    (tmp_path / "root/dangling").symlink_to(tmp_path / "nowhere")
    found = {info.key: info for info in storage.list_objects(f"{tmp_path}/root")}
    assert set(found) == {"folder/a.png", "file", "dangling"}
    assert found["file"].size_bytes == found["folder/a.png"].size_bytes == 3
    with pytest.raises(NotFoundError):
        storage.read_bytes(found["dangling"].uri)


def test_a_cycle_of_links_is_reported_and_not_walked_for_ever(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="Too many levels of symbolic links"):
        list(storage.list_objects(str(tmp_path)))


def test_a_name_that_is_not_utf8_is_kept_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"latin")
    [found] = storage.list_objects(str(tmp_path))
    assert os.fsencode(found.key) == b"caf\xe9.png"
    assert storage.read_bytes(found.uri) == b"latin"


def test_what_a_killed_writer_leaves_behind_is_not_listed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from unet_ray import storage
Path.hardlink_to = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
storage.create({str(tmp_path)!r} + "/seal.json", b"seal")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert list(storage.list_objects(str(tmp_path))) == []
    assert storage.create(f"{tmp_path}/seal.json", b"seal") is True


@pytest.mark.parametrize("use", [storage.create, storage.write])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, use: object) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError):
        use(f"{tmp_path}/taken", b"x")  # type: ignore[operator]
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_parent_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"file/x: (Not a directory|File exists)"):
        storage.create(f"{tmp_path}/file/x", b"x")


WITHOUT_HARD_LINKS = """
import ctypes, errno, platform, struct, sys
from unet_ray import storage
from unet_ray.errors import StorageError

# Have the kernel refuse link and linkat, as it does on FAT and on many FUSE file systems.
calls = {"x86_64": (86, 265), "aarch64": (37, 37)}[platform.machine()]
LOAD, EQUAL, RETURN, ALLOW, REFUSE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | errno.EPERM
tests = (EQUAL, 1, 0, calls[0]), (EQUAL, 0, 1, calls[1])
steps = [(LOAD, 0, 0, 0), *tests, (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
seccomp = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program))
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == ctypes.CDLL(None).prctl(22, 2, seccomp) == 0

for use in (lambda: storage.create(sys.argv[1] + "/a", b"x"), lambda: storage.check_output(sys.argv[1])):
    try:
        use()
    except StorageError as error:
        print(type(error).__name__, error)
print(storage.create(sys.argv[1] + "/a", b"x", exclusive=False))
"""


def test_a_file_system_without_hard_links_is_for_a_single_writer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_HARD_LINKS, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, name in zip(told[:2], ("a", "_PROBE"), strict=True):
        assert line == (
            f"StorageError could not create {tmp_path}/{name}: Operation not permitted; this file system has no hard "
            "links, which make a create-only write safe: use another, or promise that only one driver writes, with "
            "--run.single_writer true"
        )
    assert told[2] == "True"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """Close a folder, for a user who is not root: for root no folder is closed."""
    user, folder = os.geteuid(), tmp_path / "closed"
    folder.mkdir(mode=0)
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


def test_a_closed_folder_is_an_access_error(closed_folder: Path) -> None:
    for use in (storage.read_bytes, storage.exists, storage.delete):
        with pytest.raises(AccessError, match=r"closed/x: Permission denied; check owner and mode of the file"):
            use(f"{closed_folder}/x")


def test_a_full_disk_is_named_with_its_free_bytes() -> None:
    with (
        pytest.raises(
            StorageError, match=r"could not write /dev/full: the disk is full: [\d,]+ bytes are free on /dev"
        ),
        translated("write", "/dev/full"),
    ):
        Path("/dev/full").write_bytes(b"x")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ETIMEDOUT])
def test_a_file_system_that_went_away_is_a_transient_error(number: int) -> None:
    with pytest.raises(TransientError, match="check that the file system is there"), translated("read", "/x"):
        raise OSError(number, os.strerror(number))


def test_faults_that_are_not_of_the_storage_pass_untouched() -> None:
    with pytest.raises(KeyError), translated("read", "s3://bucket/x"):
        raise KeyError("x")


def test_importing_storage_imports_no_client() -> None:
    script = "import sys, unet_ray.storage; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"obstore", "s3fs", "botocore", "pyarrow", "ray"}.isdisjoint(done.stdout.split())
    assert "unet_ray.storage" in done.stdout.split()
