import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_ray.config_training import ModelSection
from unet_ray.images.paint import blend
from unet_ray.metrics import ClassScore, Scores, score
from unet_ray.report.classic import keras_history, print_benchmark, print_classes, print_scores, write_classic
from unet_ray.report.content import Panel
from unet_ray.schema import IGNORE_INDEX

# As the README of a U-Net for Cityscapes shows it, for one batch of 16 images and eight groups of classes.
CITYSCAPES = """\
class 00:  # TP= 96121, #FP=  4868, #FN=51077, IoU=0.632
class 01:  # TP=375257, #FP= 47927, #FN= 6246, IoU=0.874
class 02:  # TP=232483, #FP= 30382, #FN=31860, IoU=0.789
class 03:  # TP=  9355, #FP=  5289, #FN=13990, IoU=0.327
class 04:  # TP=127484, #FP= 16921, #FN= 8389, IoU=0.834
class 05:  # TP= 18878, #FP=  1802, #FN=  982, IoU=0.871
class 06:  # TP= 13451, #FP= 14468, #FN= 5578, IoU=0.402
class 07:  # TP= 46815, #FP=  7075, #FN=10610, IoU=0.726
____________________________________________________
Mean IoU: 0.682"""

# The IoU of each class of PASCAL VOC's validation, background first, and the means that were published with them.
VOC = (
    0.90583348, 0.61631588, 0.46176812, 0.32607745, 0.20159544, 0.33146206, 0.73923587, 0.61883991, 0.61589186,
    0.22619494, 0.26843258, 0.28243826, 0.47725354, 0.40103127, 0.50151519, 0.6797911, 0.20051836, 0.33062457,
    0.28617971, 0.49376667, 0.42613842,
)  # fmt: skip
VOC_PRINT = f"""\
{"-" * 80}
Total MIOU: 0.4472
Object MIOU: 0.4243
pixel acc: 0.8939
IOU: [0.90583348 0.61631588 0.46176812 0.32607745 0.20159544 0.33146206"""

PALETTE = ((255, 0, 0), (0, 0, 255), (0, 255, 0))
HISTORY = (
    {"epoch": 1, "train_loss": 2.0, "pixel_accuracy": 0.5, "miou": 0.2, "lr": 1e-3},
    {"epoch": 2, "train_loss": 1.0, "pixel_accuracy": None, "miou": None, "lr": 1e-4},
)


def test_the_published_table_of_cityscapes_is_reproduced_to_the_character() -> None:
    counts = [
        [int(part.split(",")[0]) for part in line.split("=")[1:4]]
        for line in CITYSCAPES.splitlines()
        if "class" in line
    ]
    assert len(counts) == 8
    classes = tuple(ClassScore(tp=tp, fp=fp, fn=fn, iou=tp / (tp + fp + fn)) for tp, fp, fn in counts)
    mean = sum(one.iou or 0.0 for one in classes) / 8
    scores = Scores(classes=classes, miou=mean, object_miou=None, pixel_accuracy=None)
    assert print_classes(scores) == CITYSCAPES


def test_the_published_scores_of_voc_are_reproduced() -> None:
    classes = tuple(ClassScore(tp=1, fp=0, fn=0, iou=iou) for iou in VOC)
    scores = Scores(
        classes=classes, miou=sum(VOC) / 21, object_miou=sum(VOC[1:]) / 20, pixel_accuracy=0.8939
    )  # fmt: skip
    printed = print_scores(scores)
    assert printed.startswith(VOC_PRINT)
    assert [float(word) for word in printed.partition("[")[2].rstrip("]").split()] == list(VOC)


def test_what_is_undefined_is_said_to_be() -> None:
    scores = score([3, 0, 0, 0], background=0)
    assert print_classes(scores).splitlines()[1] == "class 01:  # TP=     0, #FP=     0, #FN=    0, IoU=-"
    assert print_scores(scores).splitlines()[2] == "Object MIOU: -"
    assert print_scores(scores).splitlines()[-1] == "IOU: [ 1. nan]"


def test_a_history_has_the_names_of_keras() -> None:
    assert keras_history(HISTORY) == {
        "loss": [2.0, 1.0], "val_accuracy": [0.5, None], "val_miou": [0.2, None],
        "lr": [1e-3, 1e-4],
    }  # fmt: skip


def test_a_blend_is_half_the_photo_and_leaves_what_has_no_label() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    mask = np.array([[0, 1, IGNORE_INDEX]], np.uint8)
    assert blend(image, mask, PALETTE).tolist() == [[[177, 50, 50], [50, 50, 177], [100, 100, 100]]]


def panels(count: int, *, truth: bool = True) -> list[Panel]:
    rng = np.random.default_rng(0)
    masks = rng.integers(3, size=(count, 2, 24, 32), dtype=np.uint8)
    masks[:, 0, :4] = IGNORE_INDEX
    return [
        Panel(
            kind="best", image_id=f"{number}.png", miou=0.5, confidence=0.9,
            image=rng.integers(256, size=(24, 32, 3), dtype=np.uint8),
            true_mask=masks[number, 0] if truth else None, pred_mask=masks[number, 1],
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "truth", "history", "expected"),
    [
        (4, True, HISTORY, 12),
        (1, True, HISTORY, 12),
        (4, True, (), 7),
        (4, False, HISTORY, 5),
        (0, False, (), 0),
    ],
)
def test_files_are_those_for_which_there_is_something_to_show(
    tmp_path: Path, count: int, truth: bool, history: tuple[dict[str, float | None], ...], expected: int
) -> None:
    scores = score([5, 1, 0, 1, 5, 0, 0, 0, 5] if truth else [0] * 9)
    assert write_classic(str(tmp_path), history, panels(count, truth=truth), scores, PALETTE) == expected
    files = sorted(tmp_path.iterdir())
    assert len(files) == expected
    for path in files:
        if path.suffix == ".png":
            picture = Image.open(io.BytesIO(path.read_bytes()))
            assert min(picture.size) > 100
            assert len(set(picture.convert("RGB").resize((64, 64)).tobytes())) > 10
    if truth and history:
        assert {path.name for path in files} == {
            "classes.txt", "evaluation.txt", "history.json", "acc.png", "metrics.png", "Loss_curve.png",
            "Accuracy_curve.png", "prediction.png", "Predictions.png", "example_org-mask-label.png", "output.png",
            "pred_1.png",
        }  # fmt: skip
        assert (tmp_path / "classes.txt").read_text() == f"{print_classes(scores)}\n"
        assert json.loads((tmp_path / "history.json").read_text())["loss"] == [2.0, 1.0]


def test_the_benchmark_adds_up_what_epochs_and_the_last_prediction_took() -> None:
    history = (
        {"epoch": 0, "samples_per_s": None, "validation_s": 4.0, "seconds": 4.0},
        {"epoch": 1, "samples_per_s": 10.0, "validation_s": 0.0, "seconds": 30.0},
        {"epoch": 2, "samples_per_s": 40.0, "validation_s": 6.0, "seconds": 26.0},
    )
    job = {"rows": 695, "seconds": 8.0, "rows_per_s": 86.875, "stages": {"infer": {"seconds": 5.56}}}
    assert print_benchmark(history, job).splitlines() == [
        "Total time: 1.0 min (epochs: 2, with validation)",
        "Training only: 0.8 min, 22.0 img/s",  # 1100 images in 50 s
        "Prediction: 695 images in 8.0 s, 86.9 img/s",
        "1 prediction: 8.0 ms in the network",
    ]
    assert print_benchmark(HISTORY, None) == ""
    assert len(print_benchmark(history, None).splitlines()) == 2


def test_the_network_is_drawn_and_the_benchmark_written_where_they_are_known(tmp_path: Path) -> None:
    job = {"rows": 1, "seconds": 1.0, "rows_per_s": 1.0, "stages": {"infer": {"seconds": 1.0}}}
    scores = score([0] * 9)
    model = ModelSection(depth=2, width=4)
    assert write_classic(str(tmp_path), (), panels(1, truth=False), scores, PALETTE, job, model) == 2
    assert (tmp_path / "benchmark.txt").read_text() == f"{print_benchmark((), job)}\n"
    assert min(Image.open(tmp_path / "model_arch.png").size) > 100
