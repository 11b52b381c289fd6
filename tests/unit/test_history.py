import io
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from tests.unit.inline_table import keys
from unet_ray import storage
from unet_ray.errors import NotFoundError
from unet_ray.history import read_history, write_history

ROWS: list[dict[str, Any]] = [
    {"epoch": 0, "train_loss": None, "lr": None, "miou": 0.125, "confusion": [1, 2, 3, 4], "class_iou": [None, 0.5]},
    {"epoch": 1, "train_loss": 0.75, "lr": 0.001, "miou": None, "seconds": 1.5},
    {"epoch": 2, "train_loss": 0.5, "lr": 0.0005, "miou": 0.25, "object_miou": 0.0, "note": "caf\u00e9\n\u2028"},
]


def read_events(data: bytes) -> list[Event]:
    """Read a file of TFRecords: length, its checksum, content, its checksum."""
    stream, events = io.BytesIO(data), []
    while header := stream.read(12):
        (length,) = struct.unpack("<Q", header[:8])
        events.append(Event.FromString(stream.read(length)))
        assert len(stream.read(4)) == 4
    return events


def test_history_reads_back_as_it_was_written(tmp_path: Path) -> None:
    uri = f"{tmp_path}/train"
    write_history(uri, ROWS)
    assert read_history(uri) == ROWS
    assert storage.read_bytes(f"{uri}/history.jsonl").count(b"\n") == len(ROWS)


def test_history_is_written_anew_so_that_a_restart_leaves_no_rows_behind(tmp_path: Path) -> None:
    uri = f"{tmp_path}/train"
    write_history(uri, ROWS)
    write_history(uri, ROWS[:2])
    assert read_history(uri) == ROWS[:2]
    assert keys(uri) == ["history.jsonl", "tensorboard/events.out.tfevents.0.unet-ray"]


def test_a_run_without_history_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"history\.jsonl: there is no such file"):
        read_history(str(tmp_path))


def test_tensorboard_gets_the_scalars_that_are_defined_by_epoch(tmp_path: Path) -> None:
    write_history(str(tmp_path), ROWS)
    events = read_events(storage.read_bytes(f"{tmp_path}/tensorboard/events.out.tfevents.0.unet-ray"))
    scalars = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    assert scalars == {
        (name, row["epoch"]): pytest.approx(row[name])
        for row in ROWS
        for name in ("train_loss", "lr", "miou", "object_miou")
        if row.get(name) is not None
    }
    assert len(scalars) == 7
