"""The scores of a report as plain text."""

from tests.unit.test_report_page import CARD, CLASSES, HEADLINES
from unet_ray.report.content import Headline
from unet_ray.report.text import card_text, class_table


def test_class_table_is_aligned_and_ends_in_the_scores() -> None:
    assert class_table(CLASSES, HEADLINES) == "\n".join(
        [
            "class              TP     FP     FN    IoU   Dice  precision  recall",
            "--------------------------------------------------------------------",
            "sky             9,000    500  1,000  0.857  0.923      0.947   0.900",
            "road            1,500  1,000    500  0.500  0.667      0.600   0.750",
            "fence               0      0      0      -      -          -       -",
            "--------------------------------------------------------------------",
            "mIoU                                 0.679",
            "object mIoU                          0.500",
            "pixel accuracy                           -",
        ]
    )


def test_the_card_as_text_says_how_certain_the_scores_are_and_how_they_were_counted() -> None:
    assert card_text(HEADLINES, CARD) == "\n".join(
        [
            "mIoU            95 %: 0.640-0.700 over frames, 0.600-0.720 over 4 sequences",
            "object mIoU     95 %: 0.250-0.750 over frames",
            "counted         12,000 labelled pixels of 2 frames",
            "absent classes  left out of the mean: fence",
        ]
    )
    assert card_text([Headline(name="mIoU", value=None)], ()) == ""
    lines = card_text((), (("average", "word " * 60),)).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    assert all(line.startswith(" " * 9) for line in lines[1:])
