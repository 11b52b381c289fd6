"""From the ``model`` section to a network."""

from unet_ray.config_training import ModelSection
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.resnet import ResNetUNet
from unet_ray.model.unet import UNet
from unet_ray.model.unet_valid import ValidUNet


def build_model(section: ModelSection, num_classes: int) -> SegmentationNetwork:
    """Return the network of a section, with new weights from torch's random numbers.

    What the section says of its encoder's weights is left to `encoder_weights`.
    """
    norm = section.resolved_norm
    match section.kind:
        case "unet":
            return UNet(
                num_classes,
                section.width,
                section.depth,
                norm=norm,
                upsampling=section.upsampling,
                dropout=section.dropout,
                residual=section.residual,
                deep_supervision=section.deep_supervision,
            )
        case "unet_valid":
            return ValidUNet(num_classes, section.width, section.depth, norm=norm, dropout=section.dropout)
        case "resnet18" | "resnet34" | "resnet50":
            return ResNetUNet(
                num_classes,
                section.width,
                section.kind,
                norm=norm,
                upsampling=section.upsampling,
                dropout=section.dropout,
                deep_supervision=section.deep_supervision,
            )
