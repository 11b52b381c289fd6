"""What is said of environments that are bad for real, as far as a process can make itself one."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from unet_ray.config import Config
from unet_ray.config_training import TrainSection
from unet_ray.doctor import machine
from unet_ray.doctor.finding import Finding
from unet_ray.doctor.packages import check_packages

CHECK = """
import sys
from unet_ray.doctor import machine
print(getattr(machine, sys.argv[1])())
"""


def say(findings: Sequence[Finding] | Iterator[Finding]) -> dict[str, tuple[str, str]]:
    """Return status and words of each check."""
    return {one.check: (one.status, str(one).partition(" ")[2].strip()) for one in findings}


def check_in(shell: str, check: str) -> str:
    """Return what a check of the machine says in a process that a shell has prepared."""
    command = ["bash", "-c", f'{shell} "$@"', "bash", sys.executable, "-c", CHECK, check]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Packages


def test_what_is_installed_as_required_is_ok() -> None:
    found = say(check_packages(None))
    assert found["python"] == ("ok", platform.python_version())
    assert found["packages"][0] == "ok"
    assert {*found} == {"python", "packages", "[query]", "[mlflow]", "[onnx]"}


def test_packages_that_differ_or_are_missing_are_problems_with_the_command_that_mends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "obstore":
            raise metadata.PackageNotFoundError(name)
        return {"ray": "2.49.1", "torch": "2.15.0+cu132"}.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    faults = [one for one in check_packages(None) if one.status != "ok"]
    assert {one.check: one.status for one in faults} == {"packages": "problem"}
    assert {one.found: one.fix for one in faults} == {
        "ray 2.49.1, needs ==2.60.*": "pip install 'ray[data,default,train]==2.60.*'",
        "obstore is not installed": "pip install 'obstore>=0.12'",
    }


def test_another_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.14")
    assert say(check_packages(None))["python"] == ("problem", "3.10.14, needs >=3.11; install another")


def test_an_extra_matters_to_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real, found = metadata.version, {"duckdb": "1.0.0", "mlflow-skinny": None}

    def version(name: str) -> str:
        if (told := found.get(name, "")) is None:
            raise metadata.PackageNotFoundError(name)
        return told or real(name)

    monkeypatch.setattr(metadata, "version", version)
    said = say(check_packages(None))
    assert said["[query]"] == ("warning", "duckdb 1.0.0, needs >=1.4; pip install 'unet-ray[query]'")
    assert said["[mlflow]"] == ("ok", "not installed, as nobody needs it (pip install 'unet-ray[mlflow]')")
    asked = Config(train=TrainSection(mlflow_experiment="streets"))
    fix = "asked for: mlflow-skinny is not installed; pip install 'unet-ray[mlflow]'"
    assert say(check_packages(asked))["[mlflow]"] == ("problem", fix)


def test_a_copy_that_is_not_installed_knows_no_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_ray.doctor.packages._US", "unet-ray-copy")
    assert say(check_packages(None))["packages"][0] == "warning"


# The machine


def test_the_machine_of_these_tests_stops_no_job() -> None:
    assert [one for one in machine.check_machine() if one.status == "problem"] == []


def test_few_files_are_told() -> None:
    said = check_in("ulimit -n 1024;", "_check_files")
    assert said == "open files       1024 at most; raise the hard limit to 8192: ulimit -Hn"


@pytest.mark.skipif((os.cpu_count() or 1) < 2 or not shutil.which("taskset"), reason="needs two CPUs and taskset")
def test_cpus_that_may_not_be_used_are_told() -> None:
    assert check_in("taskset -c 0", "_check_cpus").startswith(
        f"cpus             {os.cpu_count()}, of which 1 may be used; RAY_ADDRESS=auto after ray start --head --num-cpus"
    )


def test_the_quota_of_a_container_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{3 * 2**30}\n")
    assert machine._check_cpus().found == f"{os.cpu_count()}, of which 0.5 may be used"
    assert str(machine._check_memory()) == "memory           3.0 GiB; 4.0 GiB are enough for a small job"
    assert {machine._check_cpus().status, machine._check_memory().status} == {"warning"}
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert machine._check_memory().status == "problem"
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert {machine._check_cpus().status, machine._check_memory().status} == {"ok"}


def test_a_small_shared_memory_is_told() -> None:
    script = f"mount -t tmpfs -o size=64m tmpfs /dev/shm && {sys.executable} -c '{CHECK}' _check_object_store"
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout:
        pytest.skip(f"no mounts of one's own here: {done.stderr}")
    assert done.stdout.startswith(
        "object store     /dev/shm has 0.1 GiB free, Ray takes the slower disk instead; start"
    )


def test_temporary_files_that_cannot_be_written_stop_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"{tmp_path}/nowhere")
    found = machine._check_temporary()
    assert (found.status, found.found) == ("problem", f"{tmp_path}/nowhere: No such file or directory")


@pytest.mark.parametrize(("used", "status"), [(0.5, "ok"), (0.96, "problem"), (0.94, "warning")])
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: float, status: str) -> None:
    total = 100 * 2**30
    usage = SimpleNamespace(total=total, used=int(total * used), free=total - int(total * used))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert machine._check_temporary().status == status


def test_a_gpu_that_torch_cannot_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    assert say(machine._check_gpus()) == {"gpu": ("ok", f"none; torch {torch.__version__}")}
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    for build, why in (
        (None, "is built for CPUs; install a CUDA build"),
        ("13.2", "can use none; the driver must fit"),
    ):
        monkeypatch.setattr(torch.version, "cuda", build)
        (said,) = machine._check_gpus()
        assert (said.status, said.found[:8]) == ("warning", "2 here, ")
        assert why in str(said)
