"""Search over options of training: many runs on one dataset, of which Ray Tune lets the better ones train on (ASHA).

What a trial is follows from the seed and its number alone, and every trial is an ordinary run: the same command again
goes on where a killed search stopped. A trial trains as far as the next rung, ends, and is told whether it may go on,
so that nothing of it is left on the cluster when it may not.
"""

import itertools
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from unet_ray import runtime, storage
from unet_ray.checkpoint import merit
from unet_ray.columns import align
from unet_ray.config import Config, Range
from unet_ray.config_file import dump_config, leaves, nearest, parse_config, plain_values
from unet_ray.errors import ConfigError, DatasetError
from unet_ray.train import run as train

logger = logging.getLogger(__name__)

_SECTIONS = ("model", "augment", "loss", "optim", "train")
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is for whoever runs the job
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # every trial writes a history of its own
}
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What `run` found: the options of the trial with the highest score, and the URI of its configuration."""

    best: str
    results: str
    trials: int
    failed: int
    score: float
    options: Options
    seconds: float = field(compare=False)


def run(config: Config) -> TuneResult:
    """Train the trials of the ``tune:`` section and write a table of them; runs on the driver, with Ray connected.

    A trial that fails, because it diverged or does not fit the memory, is told of in the table; the others go on.

    Raises:
        ConfigError: There is nothing to vary, or an option or a value of the space is none.
        DatasetError: No trial came to a score.
        ResourceError: The cluster is too small for the trials at a time.
    """
    started = time.monotonic()
    options = draw_trials(config)
    trials = [trial_config(config, number, chosen) for number, chosen in enumerate(options)]
    runtime.plan_training(config.scaling, share=config.tune.concurrent)
    logger.info("%d trials over %s", len(trials), ", ".join(options[0]))
    rows = [{**row, "options": options[row["trial"]]} for row in _search(config, trials)]
    rows.sort(key=lambda row: (row["score"] is None, -(row["score"] or 0.0), row["trial"]))
    folder = f"{config.run_uri}/tune"
    storage.write(f"{folder}/results.json", json.dumps(rows, indent=1).encode())
    for line in format_table(rows):
        logger.info("%s", line)
    if rows[0]["score"] is None:
        raise DatasetError(f"no trial came to a score; {folder}/results.json says why of each")
    best = replace(config, **_changed(trials[rows[0]["trial"]]))
    storage.write(f"{folder}/best.yaml", dump_config(best).encode())
    return TuneResult(
        best=f"{folder}/best.yaml",
        results=f"{folder}/results.json",
        trials=len(rows),
        failed=sum(row["error"] is not None for row in rows),
        score=rows[0]["score"],
        options=rows[0]["options"],
        seconds=round(time.monotonic() - started, 1),
    )


def draw_trials(config: Config) -> list[Options]:
    """Return what each trial changes: all combinations when the space has no more of them than trials, else draws.

    Raises:
        ConfigError: The space is empty, or names what is no option of training.
    """
    space = config.tune.space
    if not space:
        raise ConfigError("tune.space: must name options to vary, such as optim.lr: {low: 1e-4, high: 1e-2, log: true}")
    known = [key for key, _, _ in leaves() if key.partition(".")[0] in _SECTIONS]
    for key in space:
        if key not in known:
            raise ConfigError(
                f"tune.space: {key}: must be an option of {', '.join(_SECTIONS)}, as section.key{nearest(key)}"
            )
    names, values = sorted(space), [space[name] for name in sorted(space)]
    lists = [value for value in values if not isinstance(value, Range)]
    if len(lists) == len(values) and math.prod(map(len, lists)) <= config.tune.trials:
        return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*lists)]
    return [draw(names, values, np.random.default_rng([config.run.seed, n])) for n in range(config.tune.trials)]


def draw(names: Sequence[str], values: Sequence[Range | tuple[Any, ...]], rng: np.random.Generator) -> Options:
    """Draw a value for each name, to four digits where it is from a range."""
    chosen: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, Range):
            chosen[name] = value[int(rng.integers(len(value)))]
            continue
        share = float(rng.random())
        number = value.low * (value.high / value.low) ** share if value.log else value.low + share * value.width
        chosen[name] = float(f"{number:.4g}")
    return chosen


def trial_config(config: Config, number: int, options: Options) -> Config:
    """Return the configuration of a trial: a run of its own on the dataset of the search.

    Raises:
        ConfigError: An option does not take the value.
    """
    document = plain_values(asdict(config))
    for key, value in options.items():
        section, _, name = key.partition(".")
        document[section][name] = value
    document["data"]["dataset"] = config.dataset_uri
    document["run"] |= {"storage": f"{config.run_uri}/tune", "name": f"trial-{number:03d}"}
    document["scaling"] |= {"cpus": None, "gpus": None}  # the search asks for them, once: other trials hold them
    document["tune"] = {}
    return parse_config(document, {}, "tune.space")


def make_rungs(epochs: int, grace_epochs: int, reduction: int) -> Iterator[int]:
    """Yield the epochs at which it is decided whether a trial trains on, the last of all included."""
    rung = min(grace_epochs, epochs)
    while rung < epochs:
        yield rung
        rung *= reduction
    yield epochs


def format_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return lines of text: a trial each, its score, how far it trained and what it changed."""
    names = sorted({name for row in rows for name in row["options"]})
    cells = [["trial", "score", "epochs", *names]]
    for row in rows:
        score = "failed" if row["score"] is None else f"{row['score']:.4f}"
        cells.append([str(row["trial"]), score, str(row["epochs"]), *(str(row["options"][name]) for name in names)])
    return align(cells)


def _search(config: Config, trials: Sequence[Config]) -> Iterator[dict[str, Any]]:
    """Run the trials under Ray Tune; yield the number, epochs, score and error of each."""
    for name, value in _TUNE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    rungs = list(make_rungs(config.train.epochs, config.tune.grace_epochs, config.tune.reduction))
    share, metric = config.tune.concurrent, config.train.metric

    def trial(chosen: Mapping[str, int]) -> None:
        """Train one trial from rung to rung; runs in an actor of its own, which Ray Tune ends at a report."""
        for epoch in rungs:
            result = train.run(trials[chosen["number"]], until_epoch=epoch, share=share)
            score = getattr(result, metric)
            tune.report({"epoch": epoch, "score": None if score is None else merit(metric, score)})

    scheduler = ASHAScheduler(
        time_attr="epoch", max_t=config.train.epochs, grace_period=rungs[0], reduction_factor=config.tune.reduction
    )
    filesystem, path = storage.arrow_filesystem(f"{config.run_uri}/tune/_ray")
    found = tune.Tuner(
        tune.with_resources(trial, {"memory": 2**20}),  # no CPU: the workers it starts ask for theirs
        param_space={"number": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(metric="score", mode="max", max_concurrent_trials=share, scheduler=scheduler),
        run_config=tune.RunConfig(name="search", storage_path=path, storage_filesystem=filesystem, verbose=0),
    ).fit()
    for result in (found[number] for number in range(len(found))):
        assert result.config is not None
        metrics = result.metrics or {}
        yield {
            "trial": result.config["number"],
            "epochs": metrics.get("epoch", 0),
            "score": metrics.get("score"),
            "error": None if result.error is None else _say(result.error),
        }
    storage.delete_all(f"{config.run_uri}/tune/_ray")


def _say(error: Exception) -> str:
    known = runtime.our_error(error)
    return str(known) if known else str(error).strip().splitlines()[-1][:300]


def _changed(trial: Config) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in _SECTIONS}
