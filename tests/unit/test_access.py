import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unet_ray.access import check_address, make_token
from unet_ray.errors import ResourceError
from unet_ray.runtime import connected


@pytest.fixture
def port() -> Iterator[int]:
    """Give a port of this machine, on all its addresses, at which something answers."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RAY_ADDRESS": ""},
        {"RAY_ADDRESS": "local"},
        {"RAY_ADDRESS": "auto"},
        {"RAY_ADDRESS": "127.0.0.1:PORT"},
        {"RAY_ADDRESS": "127.9.9.9:PORT"},
        {"RAY_ADDRESS": "localhost:PORT"},
        {"RAY_ADDRESS": "[::1]:PORT"},
        {"RAY_ADDRESS": "ray://127.0.0.1:PORT"},
        {"RAY_ADDRESS": "0.0.0.0:PORT", "RAY_AUTH_MODE": "token"},
        {"RAY_ADDRESS": "ray://0.0.0.0:PORT", "RAY_AUTH_MODE": "TOKEN"},
        {"RAY_ADDRESS": "10.0.0.7:6379", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
    ],
)
def test_this_machine_a_token_or_a_submitted_job_is_enough(environment: dict[str, str], port: int) -> None:
    check_address({name: value.replace("PORT", str(port)) for name, value in environment.items()})


def test_an_address_where_nothing_answers_is_refused_at_once(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    with pytest.raises(
        ResourceError, match=rf"^RAY_ADDRESS: no Ray answers at 127\.0\.0\.1:{closed} \(.*refused\); check"
    ):
        check_address({"RAY_ADDRESS": f"127.0.0.1:{closed}"})
    with pytest.raises(ResourceError, match=r"^RAY_ADDRESS: must be host:port of a Ray head, got '127\.0\.0\.1:x'"):
        check_address({"RAY_ADDRESS": "127.0.0.1:x"})


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.7:6379",
        "0.0.0.0:6379",
        "head:6379",
        "user@head:6379",
        "ray://head.example:10001",
        "http://10.0.0.7:8265",
        "[2001:db8::1]:6379",
        "localhost.example:6379",
        "127.0.0.1.example:6379",
    ],
)
@pytest.mark.parametrize("mode", [None, "disabled", ""])
def test_another_machine_without_a_token_is_refused(address: str, mode: str | None) -> None:
    environment = {"RAY_ADDRESS": address} | ({} if mode is None else {"RAY_AUTH_MODE": mode})
    with pytest.raises(ResourceError, match=r"^RAY_ADDRESS: \S+ is another machine, .* RAY_AUTH_MODE=token"):
        check_address(environment)


def test_a_command_is_refused_before_it_connects(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.touch()
    script = "import sys; from unet_ray.cli import main; sys.exit(main())"
    environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379"}  # a documentation address: nobody answers
    done = subprocess.run(
        [sys.executable, "-c", script, "prepare", str(config), f"--run.storage={tmp_path}"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: RAY_ADDRESS: 192.0.2.1 is another machine")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_private_from_its_first_moment_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        make_token({"HOME": str(tmp_path)})
        make_token({"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/keys/ray"})
    finally:
        os.umask(before)
    for path in (tmp_path / ".ray/auth_token", tmp_path / "keys/ray"):
        assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
        assert len(bytes.fromhex(path.read_text())) == 32
        assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert (tmp_path / ".ray/auth_token").read_text() != (tmp_path / "keys/ray").read_text()


def test_a_token_that_is_there_keeps_its_content_and_loses_its_readers(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o755)
    path.write_text("mine\n")
    path.chmod(0o644)
    make_token({"HOME": str(tmp_path)})
    assert (path.read_text(), mode_of(path), mode_of(path.parent)) == ("mine\n", 0o600, 0o755)


@pytest.mark.parametrize("environment", [{"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_MODE": "disabled"}])
def test_no_token_is_made_where_none_would_be_read(tmp_path: Path, environment: dict[str, str]) -> None:
    make_token({"HOME": str(tmp_path), **environment})
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".ray").touch()
    with pytest.raises(ResourceError, match=r"/\.ray/auth_token: Ray's token cannot be kept there: .*; set HOME or"):
        make_token({"HOME": str(tmp_path)})


def test_the_places_are_those_where_ray_looks(tmp_path: Path) -> None:
    """Ray itself is asked: a token of ours is one it finds, at its default place and at one of the user's."""
    script = """
import os
from unet_ray.access import make_token
make_token(os.environ)
from ray._private.authentication.authentication_token_setup import _get_default_token_path
from ray._raylet import AuthenticationTokenLoader
print(AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True))
"""
    for changes in ({}, {"RAY_AUTH_TOKEN_PATH": f"{tmp_path}/elsewhere"}):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", script], env={**clean, "HOME": str(tmp_path), **changes},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        path = Path(changes.get("RAY_AUTH_TOKEN_PATH", f"{tmp_path}/.ray/auth_token"))
        assert done.stdout.strip() == path.read_text()


def test_a_machine_that_is_too_busy_for_ray_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")  # as Ray does

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("ray.init", start)
    with pytest.raises(ResourceError, match=r"did not start .*; run the same command again"), connected():
        pass
