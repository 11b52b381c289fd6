"""A network in training that saves checkpoints in milliseconds, without Ray."""

from typing import Any

import torch
from torch import nn

from unet_ray.checkpoint import CheckpointInfo, ModelCard, save_checkpoint
from unet_ray.config_input import LabelsSection
from unet_ray.config_training import MetricName, ModelSection
from unet_ray.labels.scheme import make_class_map

CARD = ModelCard(
    class_map=make_class_map(
        LabelsSection(classes=("road", "sky", "car"), palette=((128, 64, 128), (0, 0, 255), (1, 2, 3)), ignore_ids=())
    ),
    model=ModelSection(width=2, depth=1),
    mean=(110.25, 99.0, 80.5),
    std=(50.0, 51.0, 52.0),
    input_size=(96, 128),
    dataset_run_id="0123",
)


class Training:
    """A network in training, as a worker holds it: channels last, with a fused optimizer of two groups."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = CARD.build().to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model)

    def step(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.optimizer.zero_grad()
        self.model.train()(torch.randn((2, 3, 8, 8), generator=generator)).square().mean().backward()
        self.optimizer.step()

    def save(
        self,
        uri: str,
        step: int,
        score: float | None = None,
        *,
        metric: MetricName = "miou",
        average: nn.Module | None = None,
        **progress: Any,
    ) -> CheckpointInfo:
        return save_checkpoint(
            uri,
            card=CARD,
            model=self.model,
            average=average,
            optimizer=self.optimizer,
            step=step,
            epoch=step // 10,
            metric=metric,
            score=score,
            progress=progress,
        )


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    groups = [[p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim == 1]]
    decays = (0.1, 0.0)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for group, decay in zip(groups, decays, strict=True)],
        lr=0.01,
        fused=True,
    )
