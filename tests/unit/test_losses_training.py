import pytest
import torch

from tests.unit.four_frames import CLASSES, LOSSES, borders_of, draw_frames, miou_of
from unet_ray.config_training import LossSection
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.model.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 50


@pytest.mark.parametrize("section", LOSSES.values(), ids=LOSSES)
def test_each_loss_alone_teaches_four_frames(section: LossSection) -> None:
    torch.manual_seed(0)
    image_BCHW, mask_BHW = draw_frames()
    border_BHW = borders_of(section, mask_BHW)
    model = UNet(CLASSES, width=8, depth=2)
    loss = SegmentationLoss(section, torch.ones(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model(image_BCHW), mask_BHW, border_BHW).backward()
        optimizer.step()
    assert miou_of(model, image_BCHW, mask_BHW) > 0.95
