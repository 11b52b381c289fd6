"""The stages: ``unet-ray STAGE CONFIG [--section.key VALUE ...]``."""

from collections.abc import Mapping

from unet_ray.commands.command import Command
from unet_ray.commands.stage import declare_stage

_STAGES = (
    declare_stage(
        "labels", "all masks of an input in, what is wrong with them and the labels that fit out",
        "unet_ray.survey.run", "run data images video labels scaling",
        flags="--data.root frames", outputs=lambda config: [f"{config.run_uri}/labels"],
    ),
    declare_stage(
        "prepare", "frames and masks in, a checked and sealed dataset out",
        "unet_ray.prepare", "run data images video synthetic labels scaling",
        flags="--data.root s3://bucket/labelled", outputs=lambda config: [config.dataset_uri],
    ),
    declare_stage(
        "augment", "a prepared dataset in, a picture of what training will see of it out",
        "unet_ray.sheet.run", "run data augment",
        flags="--augment.elastic 0.5",
    ),
    declare_stage(
        "model", "a configuration in, its network as a table and a drawing out",
        "unet_ray.architecture.run", "run labels model augment",
        flags="--model.kind resnet34",
    ),
    declare_stage(
        "train", "a prepared dataset in, checkpoints and a history out",
        "unet_ray.train.run", "run model augment loss optim train scaling",
        flags="--optim.lr 1e-3", outputs=lambda config: [config.train_uri],
    ),
    declare_stage(
        "tune", "a prepared dataset and a space of options in, a run for each trial and the best of them out",
        "unet_ray.tuning", "run tune model augment loss optim train scaling",
        flags="--tune.space '{optim.lr: [1.0e-3, 1.0e-2]}'", outputs=lambda config: [f"{config.run_uri}/tune"],
    ),
    declare_stage(
        "plan", "frames and a checkpoint in, how long predict will take and what it will cost out",
        "unet_ray.predict.forecast", "run predict plan scaling",
        flags="--plan.nodes '{large: {cpus: 16, price: 0.8}}'",
    ),
    declare_stage(
        "predict", "frames and a checkpoint in, masks and counts out, exactly once",
        "unet_ray.predict.run", "run predict images video scaling",
        flags="--predict.images s3://bucket/drive-7", outputs=lambda config: [config.predictions_uri],
    ),
    declare_stage(
        "report", "history and predictions in, one HTML page out",
        "unet_ray.report.run", "run report",
    ),
    declare_stage(
        "pipeline", "prepare, train, predict and report in a row; what is complete is left alone",
        "unet_ray.stages", "run data labels model train predict report scaling",
        outputs=lambda config: [config.run_uri, config.predictions_uri],
    ),
)  # fmt: skip

STAGES: Mapping[str, Command] = {stage.name: stage for stage in _STAGES}
"""By name, in the order of the help."""
