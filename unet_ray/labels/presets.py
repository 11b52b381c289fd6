"""Label tables people bring: names, stored values and colours, and the groups they are scored in.

Cityscapes: ``helpers/labels.py`` of mcordts/cityscapesScripts (ids, colours, train ids, categories). CamVid: Brostow,
Fauqueur and Cipolla, "Semantic object classes in video" (Pattern Recognition Letters 2009), its 32 colours; the eleven
classes, their order and colours as in the SegNet tutorial (Badrinarayanan, Kendall and Cipolla 2017). PASCAL VOC: the
VOC2012 development kit, whose colour map spreads the bits of an id over the channels. CARLA: the table of the
Lyft-Udacity challenge. ISBI 2012: Arganda-Carreras et al., Frontiers in Neuroanatomy 2015.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from unet_ray.config_input import Colour


class Label(NamedTuple):
    """A label of a dataset: what is stored for it in masks of ids, and in masks of colours."""

    name: str
    value: int
    colour: Colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The labels of a dataset, and the classes made of them: all labels, or groups of them.

    Labels of no group are ignored, as are ``ignore_ids`` and ``ignore_colours``.
    """

    labels: tuple[Label, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignore_ids: tuple[int, ...] = ()
    ignore_colours: tuple[Colour, ...] = ()
    background: str | None = None


def _voc_colour(class_id: int) -> Colour:
    colour = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            colour[channel] |= (class_id >> 3 * bit + channel & 1) << 7 - bit
    return colour[0], colour[1], colour[2]


_CITYSCAPES = (
    Label("unlabeled", 0, (0, 0, 0)),
    Label("ego vehicle", 1, (0, 0, 0)),
    Label("rectification border", 2, (0, 0, 0)),
    Label("out of roi", 3, (0, 0, 0)),
    Label("static", 4, (0, 0, 0)),
    Label("dynamic", 5, (111, 74, 0)),
    Label("ground", 6, (81, 0, 81)),
    Label("road", 7, (128, 64, 128)),
    Label("sidewalk", 8, (244, 35, 232)),
    Label("parking", 9, (250, 170, 160)),
    Label("rail track", 10, (230, 150, 140)),
    Label("building", 11, (70, 70, 70)),
    Label("wall", 12, (102, 102, 156)),
    Label("fence", 13, (190, 153, 153)),
    Label("guard rail", 14, (180, 165, 180)),
    Label("bridge", 15, (150, 100, 100)),
    Label("tunnel", 16, (150, 120, 90)),
    Label("pole", 17, (153, 153, 153)),
    Label("polegroup", 18, (153, 153, 153)),
    Label("traffic light", 19, (250, 170, 30)),
    Label("traffic sign", 20, (220, 220, 0)),
    Label("vegetation", 21, (107, 142, 35)),
    Label("terrain", 22, (152, 251, 152)),
    Label("sky", 23, (70, 130, 180)),
    Label("person", 24, (220, 20, 60)),
    Label("rider", 25, (255, 0, 0)),
    Label("car", 26, (0, 0, 142)),
    Label("truck", 27, (0, 0, 70)),
    Label("bus", 28, (0, 60, 100)),
    Label("caravan", 29, (0, 0, 90)),
    Label("trailer", 30, (0, 0, 110)),
    Label("train", 31, (0, 80, 100)),
    Label("motorcycle", 32, (0, 0, 230)),
    Label("bicycle", 33, (119, 11, 32)),
)
_CITYSCAPES_19 = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
_CITYSCAPES_8 = {
    "void": ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    "flat": ("road", "sidewalk", "parking", "rail track"),
    "construction": ("building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    "object": ("pole", "polegroup", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
}
_CITYSCAPES_COLOURS = {label.name: label.colour for label in _CITYSCAPES}

_CAMVID_11 = (
    Label("sky", 0, (128, 128, 128)),
    Label("building", 1, (128, 0, 0)),
    Label("pole", 2, (192, 192, 128)),
    Label("road", 3, (128, 64, 128)),
    Label("pavement", 4, (60, 40, 222)),
    Label("tree", 5, (128, 128, 0)),
    Label("sign", 6, (192, 128, 128)),
    Label("fence", 7, (64, 64, 128)),
    Label("car", 8, (64, 0, 128)),
    Label("pedestrian", 9, (64, 64, 0)),
    Label("bicyclist", 10, (0, 128, 192)),
)
_CAMVID_32 = tuple(
    Label(name, value, colour)
    for value, (name, colour) in enumerate({
        "Animal": (64, 128, 64), "Archway": (192, 0, 128), "Bicyclist": (0, 128, 192), "Bridge": (0, 128, 64),
        "Building": (128, 0, 0), "Car": (64, 0, 128), "CartLuggagePram": (64, 0, 192), "Child": (192, 128, 64),
        "Column_Pole": (192, 192, 128), "Fence": (64, 64, 128), "LaneMkgsDriv": (128, 0, 192),
        "LaneMkgsNonDriv": (192, 0, 64), "Misc_Text": (128, 128, 64), "MotorcycleScooter": (192, 0, 192),
        "OtherMoving": (128, 64, 64), "ParkingBlock": (64, 192, 128), "Pedestrian": (64, 64, 0),
        "Road": (128, 64, 128), "RoadShoulder": (128, 128, 192), "Sidewalk": (0, 0, 192),
        "SignSymbol": (192, 128, 128), "Sky": (128, 128, 128), "SUVPickupTruck": (64, 128, 192),
        "TrafficCone": (0, 0, 64), "TrafficLight": (0, 64, 64), "Train": (192, 64, 128), "Tree": (128, 128, 0),
        "Truck_Bus": (192, 128, 192), "Tunnel": (64, 0, 64), "VegetationMisc": (192, 192, 0), "Void": (0, 0, 0),
        "Wall": (64, 192, 0),
    }.items())
)  # fmt: skip
_CAMVID_32_TO_11 = {
    "sky": ("Sky",),
    "building": ("Building", "Bridge", "Tunnel", "Archway", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}

_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_CARLA = (
    Label("None", 0, (0, 0, 0)),
    Label("Buildings", 1, (70, 70, 70)),
    Label("Fences", 2, (190, 153, 153)),
    Label("Other", 3, (72, 0, 90)),
    Label("Pedestrians", 4, (220, 20, 60)),
    Label("Poles", 5, (153, 153, 153)),
    Label("RoadLines", 6, (157, 234, 50)),
    Label("Roads", 7, (128, 64, 128)),
    Label("Sidewalks", 8, (244, 35, 232)),
    Label("Vegetation", 9, (107, 142, 35)),
    Label("Vehicles", 10, (0, 0, 142)),
    Label("Walls", 11, (102, 102, 156)),
    Label("TrafficSigns", 12, (220, 220, 0)),
)

PRESETS: Mapping[str, Preset] = {
    "cityscapes_34": Preset(labels=_CITYSCAPES),
    "cityscapes_19": Preset(labels=_CITYSCAPES, groups={name: (name,) for name in _CITYSCAPES_19}),
    "cityscapes_8": Preset(labels=_CITYSCAPES, groups=_CITYSCAPES_8),
    "cityscapes_train_ids": Preset(
        labels=tuple(Label(name, i, _CITYSCAPES_COLOURS[name]) for i, name in enumerate(_CITYSCAPES_19)),
        ignore_ids=(255,),
    ),
    "camvid_11": Preset(labels=_CAMVID_11, ignore_ids=(11, 255), ignore_colours=((0, 0, 0),)),
    "camvid_32": Preset(labels=_CAMVID_32),
    "camvid_32_to_11": Preset(labels=_CAMVID_32, groups=_CAMVID_32_TO_11),
    "voc": Preset(
        labels=tuple(Label(name, i, _voc_colour(i)) for i, name in enumerate(_VOC)),
        ignore_ids=(255,),
        ignore_colours=((224, 224, 192),),
        background="background",
    ),
    "carla": Preset(labels=_CARLA),
    "isbi": Preset(labels=(Label("membrane", 0, (0, 0, 0)), Label("cell", 255, (255, 255, 255)))),
}
"""By the name that ``labels.preset`` takes."""
