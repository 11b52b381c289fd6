"""``unet-ray pipeline``: the four stages of an experiment in a row; what is complete is left alone.

Runs on the driver, with Ray connected.
"""

import logging
from dataclasses import dataclass

from unet_ray import prepare
from unet_ray.config import Config
from unet_ray.predict import run as predict
from unet_ray.report import run as report
from unet_ray.train import run as train

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """What each stage made; ``prepare`` is None where ``data.dataset`` names the dataset of another run."""

    prepare: prepare.PrepareResult | None
    train: train.TrainResult
    predict: predict.PredictResult
    report: report.ReportResult


def run(config: Config) -> PipelineResult:
    """Prepare, train, predict and report.

    Safe to repeat: a stage that is complete is left alone, one that was cut off goes on.

    Raises:
        UnetRayError: As the stages do; those behind it are not begun.
    """
    prepared = None
    if config.data.dataset is None:
        logger.info("pipeline: prepare")
        prepared = prepare.run(config)
    logger.info("pipeline: train")
    trained = train.run(config)
    logger.info("pipeline: predict")
    predicted = predict.run(config)
    logger.info("pipeline: report")
    return PipelineResult(prepare=prepared, train=trained, predict=predicted, report=report.run(config))
