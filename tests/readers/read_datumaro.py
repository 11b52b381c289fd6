# /// script
# requires-python = ">=3.11"
# dependencies = ["datumaro==1.13.12", "protobuf>=6", "pillow"]
# ///
"""Read a dataset with Datumaro, by which CVAT reads and writes its formats: FOLDER FORMAT MASKS."""

import sys

import datumaro
import numpy as np

folder, kind, masks = sys.argv[1:]
dataset = datumaro.Dataset.import_from(folder, kind)
labels = list(dataset.categories()[datumaro.AnnotationType.label])
found = {}
for item in dataset:
    names = np.full(item.media.data.shape[:2], "", dtype="U32")
    for one in item.annotations:
        if one.type is datumaro.AnnotationType.mask:
            names[np.asarray(one.image, dtype=bool)] = labels[one.label].name
    found[item.id] = names
np.savez_compressed(masks, **found)
