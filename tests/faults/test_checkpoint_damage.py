"""Whatever byte of a checkpoint is damaged, it is noticed, named in the log, and the one before is used."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.tiny_training import Training
from unet_ray.checkpoint import CheckpointInfo, find_checkpoint, load_checkpoint
from unet_ray.errors import CheckpointError

SEED = 7
FILES = ("MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json")
FLIPS, CUTS = 200, 50


def damages(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield a file and its damaged content, None for none: single bits at random, every file alike, then cuts."""
    rng = random.Random(SEED)
    contents = {name: (folder / name).read_bytes() for name in FILES}
    for number in range(FLIPS):
        name = FILES[number % len(FILES)]
        data = bytearray(contents[name])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield name, bytes(data)
    for number in range(CUTS):
        name = FILES[number % len(FILES)]
        yield name, None if number < len(FILES) else contents[name][: rng.randrange(len(contents[name]))]


def put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[CheckpointInfo, CheckpointInfo]:
    """Two sound checkpoints; the newer one is also the better one."""
    training = Training()
    training.step()
    older = training.save(str(tmp_path), 10, 0.25, history=[{"epoch": 1, "miou": 0.25}], finished=False)
    training.step()
    return older, training.save(str(tmp_path), 20, 1e-05 + 0.5, history=[{"epoch": 2, "miou": None}], finished=True)


def test_every_damage_is_noticed_and_named_and_the_checkpoint_before_is_used(
    pair: tuple[CheckpointInfo, CheckpointInfo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = pair
    folder, silent, tried = Path(newer.uri), [], 0
    with caplog.at_level(logging.WARNING, "unet_ray.checkpoint"):
        for name, data in damages(folder):
            sound = (folder / name).read_bytes()
            put(folder / name, data)
            for which in ("last", "best"):
                caplog.clear()
                found = find_checkpoint(str(tmp_path), which)
                named = any(newer.uri in line and name in line for line in caplog.messages)
                if found.info != older or not named:
                    silent.append((SEED, tried, which, name))
            with pytest.raises(CheckpointError, match=name):
                load_checkpoint(find_checkpoint(str(tmp_path), newer.uri).info)
            (folder / name).write_bytes(sound)
            tried += 1
    assert silent == []
    assert tried == FLIPS + CUTS
    assert find_checkpoint(str(tmp_path), "last").info == newer


def test_every_single_bit_of_a_manifest_counts(pair: tuple[CheckpointInfo, CheckpointInfo], tmp_path: Path) -> None:
    older, newer = pair
    manifest = Path(newer.uri) / "MANIFEST.json"
    sound = manifest.read_bytes()
    for bit in range(8 * len(sound)):
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"MANIFEST\.json"):
            find_checkpoint(str(tmp_path), newer.uri)
    assert find_checkpoint(str(tmp_path), "last").info == older
