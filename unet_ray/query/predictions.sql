-- Ready-made views over `rows`, the predictions, and `class_names`. Ratios are computed from summed counts; what nothing
-- defines is NULL.

-- Counts of one class in a row-major K x K confusion list; classes count from 0, lists from 1.
CREATE MACRO size_of(confusion) AS CAST(sqrt(len(confusion)) AS BIGINT);
CREATE MACRO tp(confusion, k) AS confusion[k * size_of(confusion) + k + 1];
CREATE MACRO truths(confusion, k) AS list_sum(confusion[k * size_of(confusion) + 1 : (k + 1) * size_of(confusion)]);
CREATE MACRO guesses(confusion, k) AS
  list_sum(list_transform(range(size_of(confusion)), lambda j: confusion[j * size_of(confusion) + k + 1]));
CREATE MACRO iou(confusion, k) AS
  tp(confusion, k) / nullif(truths(confusion, k) + guesses(confusion, k) - tp(confusion, k), 0);
CREATE MACRO miou(confusion) AS list_avg(list_transform(range(size_of(confusion)), lambda k: iou(confusion, k)));
CREATE MACRO pixel_accuracy(confusion) AS
  list_sum(list_transform(range(size_of(confusion)), lambda k: tp(confusion, k))) / nullif(list_sum(confusion), 0);

-- Pixels whose class changed since the frame before, of those for which that is known.
CREATE MACRO flicker(lasting) AS list_sum(lasting[1 : len(lasting) // 2]) / list_sum(lasting);

CREATE VIEW frames AS
SELECT row_id, image_id, image_uri, "group", frame, split, height, width,
  miou(confusion) AS miou,
  expected_miou,
  pixel_accuracy(confusion) AS pixel_accuracy,
  list_sum(confidence_sum) / (255.0 * height * width) AS confidence,
  entropy_sum / (255.0 * height * width) AS uncertainty,
  flicker(lasting) AS flicker,
  boundary_length, class_pixels, components, copied_from, confusion
FROM rows WHERE status = 'ok';

CREATE VIEW quarantine AS
SELECT row_id, image_id, image_uri, "group", frame, error_code, error_message FROM rows WHERE status = 'quarantined';

CREATE VIEW class_sums AS
SELECT "group", place - 1 AS class_id, sum(pixels)::BIGINT AS pixels, sum(confidence)::BIGINT AS confidence
FROM (
  SELECT "group", unnest(class_pixels) AS pixels, unnest(confidence_sum) AS confidence,
    unnest(range(1, len(class_pixels) + 1)) AS place
  FROM rows WHERE status = 'ok'
) GROUP BY ALL;

CREATE VIEW confusion_sums AS
SELECT "group", place, sum(pixels)::BIGINT AS pixels
FROM (
  SELECT "group", unnest(confusion) AS pixels, unnest(range(1, len(confusion) + 1)) AS place
  FROM rows WHERE status = 'ok' AND confusion IS NOT NULL
) GROUP BY ALL;

CREATE VIEW classes AS
WITH total AS (
  SELECT list(pixels ORDER BY place) AS confusion FROM (SELECT place, sum(pixels)::BIGINT AS pixels FROM confusion_sums GROUP BY place)
), predicted AS (
  SELECT class_id, sum(pixels)::BIGINT AS pixels, sum(confidence)::BIGINT AS confidence FROM class_sums GROUP BY class_id
)
SELECT class_id, name,
  tp(confusion, class_id) AS tp,
  guesses(confusion, class_id) - tp(confusion, class_id) AS fp,
  truths(confusion, class_id) - tp(confusion, class_id) AS fn,
  iou(confusion, class_id) AS iou,
  pixels / nullif(sum(pixels) OVER (), 0) AS share,
  confidence / nullif(255.0 * pixels, 0) AS confidence
FROM class_names LEFT JOIN predicted USING (class_id) CROSS JOIN total ORDER BY class_id;

CREATE VIEW by_group AS
WITH of_frames AS (
  SELECT "group", count(*) AS frames, min(frame) AS first_frame, max(frame) AS last_frame,
    sum(list_sum(confidence_sum)) / sum(255.0 * height * width) AS confidence,
    sum(entropy_sum) / sum(255.0 * height * width) AS uncertainty,
    avg(expected_miou) AS expected_miou,
    sum(list_sum(lasting[1 : len(lasting) // 2])) / sum(list_sum(lasting)) AS flicker,
    count(copied_from) AS copied
  FROM rows WHERE status = 'ok' GROUP BY "group"
), of_truth AS (
  SELECT "group", list(pixels ORDER BY place) AS confusion FROM confusion_sums GROUP BY "group"
)
SELECT "group", frames, first_frame, last_frame, miou(confusion) AS miou, pixel_accuracy(confusion) AS pixel_accuracy,
  expected_miou, confidence, uncertainty, flicker, copied, confusion
FROM of_frames LEFT JOIN of_truth USING ("group") ORDER BY "group";

-- As by_group, for each minute of a group, whose frames follow each other at so many a second: FROM by_minute(30).
CREATE MACRO by_minute(frames_per_second) AS TABLE
WITH timed AS (
  SELECT *, CAST(floor(frame / (60.0 * frames_per_second)) AS BIGINT) AS minute FROM rows WHERE status = 'ok'
), of_frames AS (
  SELECT "group", minute, count(*) AS frames,
    sum(list_sum(confidence_sum)) / sum(255.0 * height * width) AS confidence,
    sum(entropy_sum) / sum(255.0 * height * width) AS uncertainty,
    avg(expected_miou) AS expected_miou,
    sum(list_sum(lasting[1 : len(lasting) // 2])) / sum(list_sum(lasting)) AS flicker
  FROM timed GROUP BY "group", minute
), sums AS (
  SELECT "group", minute, place, sum(pixels)::BIGINT AS pixels
  FROM (
    SELECT "group", minute, unnest(confusion) AS pixels, unnest(range(1, len(confusion) + 1)) AS place
    FROM timed WHERE confusion IS NOT NULL
  ) GROUP BY ALL
), of_truth AS (
  SELECT "group", minute, list(pixels ORDER BY place) AS confusion FROM sums GROUP BY "group", minute
)
SELECT "group", minute, frames, miou(confusion) AS miou, pixel_accuracy(confusion) AS pixel_accuracy, expected_miou,
  confidence, uncertainty, flicker
FROM of_frames LEFT JOIN of_truth USING ("group", minute) ORDER BY "group", minute;
