"""Frames too large for one forward pass, and views that are averaged: what a whole frame in one pass would give."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

from tests.unit.drawn_shapes import NUM_CLASSES
from unet_ray.config import Flips
from unet_ray.config_training import ModelSection
from unet_ray.model.build import build_model
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.planes import make_planes
from unet_ray.model.segmented import Segmented
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.views import make_views

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MEAN, STD = (110.0, 90.0, 70.0), (60.0, 50.0, 40.0)
SECTIONS = [
    ModelSection(width=4, depth=2),
    ModelSection(width=4, depth=3, upsampling="bilinear", residual=True),
    ModelSection(kind="unet_valid", width=4, depth=2, norm="batch"),
    ModelSection(kind="resnet18", width=4),
]

Image = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _one_order_of_sums() -> Iterator[None]:
    """oneDNN chooses its algorithm, and with it the order of sums, by the size of the map."""
    with torch.backends.mkldnn.flags(enabled=False):  # type: ignore[no-untyped-call]
        yield


def make_model(section: ModelSection, num_classes: int = NUM_CLASSES) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(section, num_classes).eval()


def make_image(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)


def segment(model: SegmentationNetwork, image: Image, **options: object) -> Segmented:
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32", measured=True, second=True, **options)  # type: ignore[arg-type]
    (found,) = segmenter.segment([image])
    return found


def label(section: ModelSection) -> str:
    return f"{section.kind}-{section.upsampling}"


@pytest.mark.parametrize("section", SECTIONS, ids=label)
def test_tiles_put_together_are_exactly_the_whole(section: ModelSection, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(section)
    side = 3 * (model.reach or 0) + 5 * model.sizes.stride + 7
    image = make_image(96, side)
    passes: list[int] = []
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: passes.append(x[0, 0].numel()) or forward(self, x))
    whole = segment(model, image)
    assert len(passes) == 1
    tiled = segment(model, image, most_pixels=(96 + 2 * model.sizes.margin) * (2 * side // 3 + 3 * model.sizes.stride))
    assert len(passes) >= 3
    assert max(passes[1:]) < passes[0]
    for name in ("mask", "confidence", "second", "entropy"):
        np.testing.assert_array_equal(getattr(tiled, name), getattr(whole, name), err_msg=name)


@pytest.mark.parametrize("section", [*SECTIONS[:2], SECTIONS[3]], ids=label)
def test_no_logit_depends_on_more_than_the_reach_and_some_on_nearly_as_much(section: ModelSection) -> None:
    model = make_model(section)
    for module in model.modules():  # every path carries something, and nothing cancels out
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    assert model.reach is not None
    stride = model.sizes.stride
    middle = -(-model.reach // stride) * stride + stride
    seen = []
    for offset in (0, stride - 1):
        image_BCHW = torch.ones(1, 3, stride, 2 * middle + stride, requires_grad=True)
        model(image_BCHW)[0, :, :, middle + offset].sum().backward()
        touched = image_BCHW.grad[0].abs().sum((0, 1)).nonzero().ravel()
        seen += [middle + offset - int(touched.min()), int(touched.max()) - middle - offset]
    assert 0.75 * model.reach < max(seen) <= model.reach


def test_group_normalisation_sees_all_of_the_frame_so_it_is_never_cut() -> None:
    model = make_model(ModelSection(width=4, depth=2, norm="group"))
    image = make_image(40, 60)
    np.testing.assert_array_equal(segment(model, image, most_pixels=64).mask, segment(model, image).mask)


def test_more_frames_than_fit_take_turns() -> None:
    model = make_model(SECTIONS[0])
    images = [make_image(16, 20 + 4 * (number % 2)) for number in range(5)]
    batches: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32", most_pixels=2 * 16 * 20)
    found = segmenter.segment(images)
    assert batches == [2, 1, 1, 1]
    for one, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(one.mask, segmenter.segment([image])[0].mask)


@pytest.mark.parametrize(("flips", "axes"), [("horizontal", (1,)), ("both", (0,)), ("both", (0, 1))])
def test_the_mean_over_flips_is_the_same_for_a_flipped_frame(flips: Flips, axes: tuple[int, ...]) -> None:
    model = make_model(SECTIONS[0])
    image = make_image(32, 48)
    views = make_views(flips, (1.0,))
    straight = segment(model, image, views=views)
    flipped = segment(model, np.ascontiguousarray(np.flip(image, axes)), views=views)
    assert (np.flip(flipped.mask, axes) == straight.mask).mean() > 0.999
    assert (straight.mask != segment(model, image).mask).any()


def test_views_are_averaged_as_probabilities() -> None:
    model = make_model(SECTIONS[0])
    image = make_image(32, 48)
    normalised = torch.from_numpy((image.astype(np.float32) - MEAN) / STD).float().permute(2, 0, 1)[None]
    total = torch.zeros(1, NUM_CLASSES, 32, 48)
    with torch.no_grad():
        for scale in (0.5, 1.0, 1.5):
            for flip in ((), (3,)):
                size = (int(32 * scale), int(48 * scale))
                seen = interpolate(normalised, size, mode="bilinear", antialias=scale < 1).flip(flip)
                probs = model(seen).softmax(1).flip(flip)
                total += interpolate(probs, (32, 48), mode="bilinear", antialias=scale > 1) / 6
    found = segment(model, image, views=make_views("horizontal", (0.5, 1.0, 1.5)))
    assert found.confidence is not None
    assert (found.mask == total.argmax(1)[0].numpy()).mean() > 0.999
    np.testing.assert_allclose(found.confidence / 255, total.amax(1)[0].numpy(), atol=0.004)


@pytest.mark.parametrize("flips", ["none", "both"])
def test_tiles_of_scaled_views_are_tiles_of_the_whole(flips: Flips) -> None:
    model = make_model(SECTIONS[0])
    image = make_image(70, 500)
    views = make_views(flips, (0.5, 1.0, 1.25))
    whole = segment(model, image, views=views)
    tiled = segment(model, image, views=views, most_pixels=80 * 300)
    assert whole.confidence is not None
    assert tiled.confidence is not None
    assert (tiled.mask == whole.mask).mean() > 0.999
    assert np.abs(tiled.confidence.astype(int) - whole.confidence).max() <= 1


def test_confidence_second_class_and_entropy_are_those_of_the_probabilities() -> None:
    model = make_model(SECTIONS[0])
    image = make_image(24, 40)
    found = segment(model, image)
    normalised = torch.from_numpy((image - np.array(MEAN)) / STD).permute(2, 0, 1)[None]
    with torch.no_grad():
        probs = model.double()(normalised)[0].softmax(0).numpy()
    order = np.argsort(-probs, axis=0)
    assert (found.mask == order[0]).mean() > 0.999
    assert (found.second == order[1]).mean() > 0.999
    np.testing.assert_allclose(found.confidence, 255 * probs.max(0), atol=0.51)
    entropy = -(probs * np.log(probs)).sum(0) / np.log(NUM_CLASSES)
    np.testing.assert_allclose(found.entropy, 255 * entropy, atol=0.51)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_certainty_and_ignorance_have_the_ends_of_the_scale(dtype: torch.dtype) -> None:
    logits_KHW = torch.zeros(4, 1, 2, dtype=dtype)
    logits_KHW[2, 0, 1] = 1e4
    planes = make_planes(logits_KHW, measured=True, second=True)
    assert planes["confidence"].tolist() == [[64, 255]]
    assert planes["entropy"].tolist() == [[255, 0]]
    assert (planes["mask"].tolist(), planes["second"].tolist()) == ([[0, 2]], [[1, 0]])
    alone = make_planes(torch.randn(1, 1, 2).to(dtype), measured=True, second=False)
    assert {name: plane.tolist() for name, plane in alone.items()} == {
        "confidence": [[255, 255]], "entropy": [[0, 0]], "mask": [[0, 0]],
    }  # fmt: skip
    assert logits_KHW[2, 0, 1] == 1e4  # they are not used up


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_classes", [1, 2, 11, 256])
def test_the_first_of_equal_classes_counts_as_for_argmax(dtype: torch.dtype, num_classes: int) -> None:
    logits_KHW = torch.randint(-3, 4, (num_classes, 7, 9), generator=torch.manual_seed(0)).to(dtype)
    planes = make_planes(logits_KHW, measured=False, second=True)
    assert torch.equal(planes["mask"], logits_KHW.argmax(0).to(torch.uint8))
    others_KHW = logits_KHW.scatter(0, logits_KHW.argmax(0)[None], -torch.inf)
    assert torch.equal(planes["second"], others_KHW.argmax(0).to(torch.uint8))


HUNGRY = """
import resource, logging, numpy as np, torch
from unet_ray.config_training import ModelSection
from unet_ray.errors import ResourceError
from unet_ray.model.build import build_model
from unet_ray.model.segmenter import Segmenter
logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
model = build_model(ModelSection(width=32, depth=1), 4)
images = [np.full((512, 512, 3), 9, np.uint8)] * 4
segmenter = Segmenter(model, (100.0,) * 3, (50.0,) * 3, torch.device("cpu"), "fp32", most_pixels=2**40)
segmenter.segment([images[0][:64, :64]])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
def allow(extra):
    resource.setrlimit(resource.RLIMIT_AS, (used + extra * 2**20, -1))
allow(400)
found = segmenter.segment(images)
print(len(found), found[0].mask.shape, segmenter._most_pixels < 2**20)
model = build_model(ModelSection(width=32, depth=1, norm="group"), 4)  # never cut
segmenter = Segmenter(model, (100.0,) * 3, (50.0,) * 3, torch.device("cpu"), "fp32")
try:
    segmenter.segment([np.full((2048, 2048, 3), 9, np.uint8)])
except ResourceError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_without_enough_memory_it_goes_on_with_less_at_a_time_and_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout.splitlines()[:1] == ["4 (512, 512) True"], done.stderr
    assert "out of memory: going on with" in done.stderr
    assert done.stdout.splitlines()[1].startswith("predict.forward_pixels: there is no memory for"), done.stderr
