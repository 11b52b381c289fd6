"""The data contracts: the Arrow schemas of every table that crosses a stage.

Plain Arrow types only, so that DuckDB, Spark and Delta readers open the files. Change a schema, and
`SCHEMA_VERSION` goes up: it is part of every plan, so outputs of two versions never mix.
"""

import pyarrow as pa

SCHEMA_VERSION = 5

IGNORE_INDEX = 255
"""Mask value on disk and in the loss that means "no label"."""

OK = "ok"
QUARANTINED = "quarantined"

PLAN = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),  # position in the plan
        pa.field("image_id", pa.string(), nullable=False),  # key under the input root, byte-exact
        pa.field("image_uri", pa.string()),  # null: the image is missing
        pa.field("image_etag", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("mask_uri", pa.string()),  # null: no truth
        pa.field("mask_etag", pa.string()),
        pa.field("mask_bytes", pa.int64()),
        pa.field("frame_index", pa.int64()),  # frame of a video or page of a volume; null: the file is one frame
        pa.field("part_uri", pa.string()),  # the dataset part that holds the pair; null: fetch the URIs
        pa.field("part_row", pa.int64()),
        pa.field("group", pa.string(), nullable=False),  # video or sequence; "" when unknown
        pa.field("frame", pa.int64()),  # number within the group; null when unknown
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""What a job will do: one row per image, in plan order."""

IDENTITY = ("row_id", "image_id", "image_uri", "group", "frame", "split")
"""Columns of a planned row that every row made of it keeps."""

_ROW = [
    pa.field("row_id", pa.int64(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image_uri", pa.string()),
    pa.field("group", pa.string(), nullable=False),
    pa.field("frame", pa.int64()),
    pa.field("split", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),  # ok | quarantined
    pa.field("error_code", pa.string()),
    pa.field("error_message", pa.string()),
]

DATASET = pa.schema(
    [
        *_ROW,
        pa.field("image", pa.large_binary()),  # encoded file; the original bytes unless resized
        pa.field("mask", pa.large_binary()),  # PNG, (H, W) uint8 class ids, 255 = ignored
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("class_pixels", pa.list_(pa.int64())),  # (K,) pixels of each class in the mask
        pa.field("ignored_pixels", pa.int64()),
        pa.field("channel_sum", pa.list_(pa.int64())),  # (3,) sum of R, G, B over all pixels
        pa.field("channel_square_sum", pa.list_(pa.int64())),  # (3,) sum of their squares
    ]
)
"""A prepared dataset: one row per pair."""

DATASET_SUMMED = ("class_pixels", "ignored_pixels", "channel_sum", "channel_square_sum")
"""Integer columns of `DATASET` whose sums over ok rows stand in every seal."""

PREDICTION = pa.schema(
    [
        *_ROW,
        pa.field("pred_mask", pa.large_binary()),  # (H, W) uint8 class ids: raw rows or PNG (predict.mask_encoding)
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("channel_sum", pa.list_(pa.int64())),  # (3,) sum of R, G, B over all pixels
        pa.field("class_pixels", pa.list_(pa.int64())),  # (K,) pixels predicted as each class
        pa.field("ignored_pixels", pa.int64()),  # pixels without truth; null without a true mask
        pa.field("confusion", pa.list_(pa.int64())),  # (K * K,) row-major true x predicted; null without truth
        pa.field("calibration", pa.list_(pa.int64())),  # (3 * 15,) `calibration.count_calibration`; null without truth
        pa.field("confidence_sum", pa.list_(pa.int64())),  # (K,) probability, in 1/255, over the pixels of each class
        pa.field("entropy_sum", pa.int64()),  # entropy of a pixel's probabilities, in 1/255 of log(K), over all pixels
        pa.field("boundary_length", pa.int64()),  # pairs of pixels side by side or one above the other of two classes
        pa.field("components", pa.list_(pa.int64())),  # (K,) connected components of each class, corners connect
        pa.field("lasting", pa.list_(pa.int64())),  # (2 * K,) `metrics.count_lasting`; null: no frame before it at hand
        pa.field("expected_miou", pa.float64()),  # `quality`; null: the checkpoint does not tell
        pa.field("copied_from", pa.int64()),  # row_id of the frame whose mask this is; null: segmented itself
        pa.field("confidence", pa.large_binary()),  # (H, W) uint8 probability in 1/255; null unless in predict.planes
        pa.field("second_mask", pa.large_binary()),  # (H, W) uint8 second class; null unless in predict.planes
    ]
)
"""Predictions: one row per frame."""

PREDICTION_SUMMED = (
    "channel_sum",
    "class_pixels",
    "ignored_pixels",
    "confusion",
    "calibration",
    "confidence_sum",
    "entropy_sum",
    "boundary_length",
    "components",
    "lasting",
)
"""Integer columns of `PREDICTION` whose sums over ok rows stand in every seal."""

MANIFEST = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # key of the part under the table's URI
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
        pa.field("num_ok", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
"""The parts of a published table, in shard order."""
