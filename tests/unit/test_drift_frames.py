"""Frames held against those of a validation: through a network, a checkpoint that knows them, and a table."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.unit.image_files import encode
from tests.unit.tiny_training import CARD
from unet_ray import drift
from unet_ray.checkpoint import save_checkpoint
from unet_ray.config_file import parse_config
from unet_ray.datasets.frames import FRAMES, load_frames
from unet_ray.model.segmenter import Segmenter
from unet_ray.predict.describe import Describe
from unet_ray.predict.network import Network
from unet_ray.predict.plan import open_model, plan_predictions
from unet_ray.predict.sequence import Image
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Units
from unet_ray.train.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")

UNRESIZED = replace(CARD, input_size=None)
NUM_FRAMES = 120
SHAPE = (32, 48)


def draw(number: int) -> Image:
    rng = np.random.default_rng(number)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (*SHAPE, 3), np.uint8), (0, 0), 3).astype(np.float64)
    return np.clip((texture - 128) * 3 + rng.uniform(80, 140), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def storage_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose checkpoint was validated on the frames."""
    uri = str(tmp_path_factory.mktemp("drift"))
    torch.manual_seed(2)
    model = UNRESIZED.build().eval()
    segmenter = Segmenter(model, CARD.mean, CARD.std, torch.device("cpu"), "fp32", measured=True)
    validation = Validation.empty(3)
    truth = bytes(SHAPE[0] * SHAPE[1])
    for number in range(NUM_FRAMES):
        row = {"height": SHAPE[0], "width": SHAPE[1], "image": draw(number).tobytes(), "true_mask": truth}
        validation.add(segmenter, pa.Table.from_pylist([row], schema=FRAMES))
    save_checkpoint(
        f"{uri}/run/train", card=UNRESIZED, model=model, optimizer=torch.optim.SGD(model.parameters()), step=1,
        epoch=1, score=0.5, reference=validation.reference(UNRESIZED), progress={},
    )  # fmt: skip
    return uri


def find_drift(storage_uri: str, folder: Path, change: Callable[[Image], bytes]) -> drift.Drift:
    """Return how far the frames have shifted when they are changed."""
    (folder / "frames").mkdir()
    for number in range(NUM_FRAMES):
        (folder / f"frames/{number:03}.png").write_bytes(change(draw(number)))
    document = {
        "run": {"storage": storage_uri, "name": "run"},
        "predict": {"images": f"{folder}/frames", "output": f"{folder}/out"},
    }
    config = parse_config(document, {}, "test")
    checkpoint = open_model(config)
    plan = plan_predictions(config, checkpoint, "fp32")
    network = Network(checkpoint.info, "cpu", 1, "fp32", config.predict)
    describe = Describe(section=config.predict, num_classes=3, estimator=None)

    def produce(units: Units) -> Iterator[Part]:
        for unit in units:
            loaded = load_frames(plan.read(unit), classes=CARD.class_map, policy=config.images)
            yield write_part(plan, [unit], describe(network(loaded), plan.row_ids(unit)))

    fill(plan, produce, limits=QuarantineLimits(fraction=0))
    return drift.run(plan.uri)


def test_the_frames_of_the_validation_have_not_shifted(storage_uri: str, tmp_path: Path) -> None:
    found = find_drift(storage_uri, tmp_path, lambda image: encode(image, "PNG"))
    assert (found.frames, found.reference_frames, found.reference) == (NUM_FRAMES, NUM_FRAMES, None)
    assert {one.index for one in found.shifts} == {0.0}


def test_a_copy_that_was_encoded_anew_has_not_shifted(storage_uri: str, tmp_path: Path) -> None:
    found = find_drift(storage_uri, tmp_path, lambda image: encode(image, "JPEG", quality=85))
    assert any(one.index for one in found.shifts)
    assert (found.largest, found.shifted_groups) == (0.0, 0)


def test_a_brighter_copy_has_shifted(storage_uri: str, tmp_path: Path) -> None:
    found = find_drift(storage_uri, tmp_path, lambda image: encode(cv2.add(image, (30.0,) * 4), "PNG"))
    (brightness,) = (one for one in found.shifts if one.number == "brightness")
    assert brightness.is_large
    assert found.largest >= brightness.index
    assert found.shifted_groups == 1


def test_frames_that_were_resized_alike_are_not_known_by_their_size() -> None:
    validation = Validation.empty(3)
    assert validation.reference(CARD) is None
    validation.levels_FL[:, 500] = 4
    sizes = {}
    for input_size in (None, (32, 48)):
        reference = validation.reference(replace(CARD, input_size=input_size))
        assert reference is not None
        sizes[input_size] = reference.names[0]
        assert reference.sample.frames == 4
    assert sizes == {None: "size", (32, 48): "brightness"}
