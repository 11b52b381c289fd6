"""Small datasets in the very format of known ones, in a folder or a bucket; and what `prepare` makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.unit.image_files import POLICY, encode, gradient
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.datasets.layouts import labels_of, list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.presets import PRESETS
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs

IMAGE = gradient(2, 4)
PHOTO, JPEG = encode(IMAGE, "PNG"), encode(IMAGE, "JPEG")


def put(root: str, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        storage.write(f"{root}/{key}", data)


def ids_png(ids: Sequence[Sequence[int]]) -> bytes:
    return encode(np.array(ids, np.uint8), "PNG")


def colour_png(names: Sequence[Sequence[str]], preset: str) -> bytes:
    """Return a mask in the colours of the labels of a preset."""
    colours = {label.name: label.colour for label in PRESETS[preset].labels}
    return encode(np.array([[colours[name] for name in row] for row in names], np.uint8), "PNG")


def rows_of(config: Config) -> list[Row]:
    with list_inputs(config) as listing:
        return list(listing.rows())


def check(config: Config) -> list[dict[str, Any]]:
    """List an input and check its pairs: a `schema.DATASET` row each."""
    rows = [{"row_id": number, **row} for number, row in enumerate(rows_of(config))]
    classes = make_class_map(labels_of(config))
    return check_pairs(rows, classes=classes, policy=POLICY, resize=None).to_pylist()  # type: ignore[no-any-return]


def mask_of(row: Mapping[str, Any]) -> list[list[int]]:
    """Return the class ids of a checked row."""
    assert row["status"] == "ok", row["error_message"]
    return decode_stored_mask(row["mask"], row["height"], row["width"], "png").tolist()  # type: ignore[no-any-return]


CITYSCAPES_IDS = [[7, 8, 0, 26], [33, 29, 11, 23]]
CITYSCAPES_TRAIN_IDS = [[0, 1, 255, 13], [18, 255, 2, 10]]
CITYSCAPES_NAMES = [["road", "sidewalk", "unlabeled", "car"], ["bicycle", "caravan", "building", "sky"]]


def draw_cityscapes(root: str, kind: str = "gtFine") -> None:
    """Two cities that train, one that validates, with all the files that lie there; photos without masks to test."""
    masks = {
        f"{kind}_labelIds.png": ids_png(CITYSCAPES_IDS),
        f"{kind}_labelTrainIds.png": ids_png(CITYSCAPES_TRAIN_IDS),
        f"{kind}_color.png": colour_png(CITYSCAPES_NAMES, "cityscapes_34"),
        f"{kind}_instanceIds.png": encode(np.array(CITYSCAPES_IDS, np.uint16) * 1000, "PNG"),
        f"{kind}_polygons.json": b"{}",
    }
    for frame in ("train/hamburg/hamburg_000000_016447", "train/hamburg/hamburg_000000_000042",
                  "train/aachen/aachen_000001_000019", "val/lindau/lindau_000000_000019"):  # fmt: skip
        put(root, {f"leftImg8bit/{frame}_leftImg8bit.png": PHOTO})
        put(root, {f"{kind}/{frame}_{name}": data for name, data in masks.items()})
    put(
        root, {"leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png": PHOTO, "README": b"", "license.txt": b""}
    )


CAMVID_IDS = [[3, 3, 11, 0], [10, 9, 8, 1]]
CAMVID_NAMES = [["LaneMkgsDriv", "Road", "Void", "Sky"], ["MotorcycleScooter", "Child", "Train", "Tunnel"]]


def draw_segnet_camvid(root: str) -> None:
    """SegNet's copy with its lists, one of whose entries is not there; one frame is in no list."""
    for split, *frames in (("train", "0001TP_006690", "0006R0_f00930", "0016E5_00390"), ("val", "0016E5_07959")):
        put(root, {f"{split}/{frame}.png": PHOTO for frame in frames})
        put(root, {f"{split}annot/{frame}.png": ids_png(CAMVID_IDS) for frame in frames})
    put(root, {"train.txt": _segnet_list("train", "0006R0_f00930", "0001TP_006690", "0016E5_00420")})
    put(root, {"val.txt": _segnet_list("val", "0016E5_07959").replace(b"\n", b"\r\n\r\n")})


def _segnet_list(split: str, *frames: str) -> bytes:
    lines = (f"/SegNet/CamVid/{split}/{frame}.png /SegNet/CamVid/{split}annot/{frame}.png\n" for frame in frames)
    return "".join(lines).encode()


def draw_kaggle_camvid(root: str) -> None:
    """The colours, split into folders."""
    mask = colour_png(CAMVID_NAMES, "camvid_32")
    for split, frame in (("train", "0001TP_009210"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00030")):
        put(root, {f"{split}/{frame}.png": PHOTO, f"{split}_labels/{frame}_L.png": mask})
    put(root, {"class_dict.csv": b"name,r,g,b\nAnimal,64,128,64\n"})


def draw_original_camvid(root: str) -> None:
    """The colours as they were published, with a leftover of a file manager."""
    mask = colour_png(CAMVID_NAMES, "camvid_32")
    for frame in ("0016E5_08640", "0016E5_00390", "0006R0_f00930"):
        put(root, {f"701_StillsRaw_full/{frame}.png": PHOTO, f"LabeledApproved_full/{frame}_L.png": mask})
    put(root, {"701_StillsRaw_full/Thumbs.db": b"x"})


VOC_IDS = [[0, 0, 255, 20], [255, 1, 15, 0]]


def voc_mask(ids: Sequence[Sequence[int]]) -> bytes:
    """Return a palette PNG."""
    picture = Image.fromarray(np.array(ids, np.uint8))
    colours = [label.colour for label in PRESETS["voc"].labels] + [(0, 0, 0)] * 234 + [(224, 224, 192)]
    picture.putpalette([channel for colour in colours for channel in colour])
    return encode(picture, "PNG")


def draw_voc(root: str, *, lists: bool = True) -> None:
    """Three photos with masks and one without, with more masks in SegmentationClassAug, and the lists of both."""
    photos = ("2007_000032", "2007_000039", "2007_000033", "2008_000002")
    put(root, {f"JPEGImages/{name}.jpg": JPEG for name in photos})
    put(root, {f"SegmentationClass/{name}.png": voc_mask(VOC_IDS) for name in photos[:3]})
    put(root, {f"SegmentationClassAug/{name}.png": ids_png(VOC_IDS) for name in photos})
    put(root, {f"SegmentationObject/{photos[0]}.png": voc_mask(VOC_IDS), f"Annotations/{photos[0]}.xml": b"<a/>"})
    if lists:
        put(root, {
            "ImageSets/Segmentation/train.txt": b"2007_000039\r\n\r\n2007_000032\r\n",
            "ImageSets/Segmentation/val.txt": b"2007_000033\n",
            "ImageSets/Segmentation/trainval.txt": b"2007_000032\n2007_000033\n2007_000039\n",
            "ImageSets/SegmentationAug/train.txt": b"2007_000032\n2007_000039\n2008_000002\n",
            "ImageSets/SegmentationAug/val.txt": b"2007_000033",
        })  # fmt: skip


CARLA_IDS = [[0, 7, 10, 10], [7, 12, 10, 1]]


def carla_mask(ids: Sequence[Sequence[int]], channel: int = 0) -> bytes:
    """Return a colour PNG with ids in one channel."""
    pixels: NDArray[np.uint8] = np.zeros((len(ids), len(ids[0]), 3), np.uint8)
    pixels[:, :, channel] = ids
    return encode(pixels, "PNG")


def draw_carla(root: str) -> None:
    """Two parts of the challenge: sequences of two naming styles, and frames that are numbered only."""
    mask = carla_mask(CARLA_IDS)
    for folder, *names in (("dataA/dataA", "02_00_010", "02_00_009", "F61-2", "F61-10"), ("dataB/dataB", "10", "9")):
        put(root, {f"{folder}/CameraRGB/{name}.png": PHOTO for name in names})
        put(root, {f"{folder}/CameraSeg/{name}.png": mask for name in names})
    put(root, {"hood.npy": b"x"})
