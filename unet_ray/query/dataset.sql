-- Ready-made views over `rows`, a prepared dataset, and `class_names`.

CREATE VIEW frames AS
SELECT row_id, image_id, image_uri, "group", frame, split, height, width, class_pixels, ignored_pixels,
  list_sum(channel_sum) / (3.0 * height * width) AS brightness
FROM rows WHERE status = 'ok';

CREATE VIEW quarantine AS
SELECT row_id, image_id, image_uri, "group", frame, split, error_code, error_message
FROM rows WHERE status = 'quarantined';

CREATE VIEW classes AS
WITH counts AS (
  SELECT place - 1 AS class_id, sum(pixels)::BIGINT AS pixels, count(*) FILTER (pixels > 0) AS frames
  FROM (
    SELECT unnest(class_pixels) AS pixels, unnest(range(1, len(class_pixels) + 1)) AS place
    FROM rows WHERE status = 'ok'
  ) GROUP BY place
)
SELECT class_id, name, pixels, frames, pixels / nullif(sum(pixels) OVER (), 0) AS share
FROM class_names LEFT JOIN counts USING (class_id) ORDER BY class_id;

CREATE VIEW by_group AS
SELECT "group", split, count(*) AS frames, min(frame) AS first_frame, max(frame) AS last_frame,
  sum(list_sum(channel_sum)) / sum(3.0 * height * width) AS brightness
FROM rows WHERE status = 'ok' GROUP BY "group", split ORDER BY "group", split;
