"""The command line: ``unet-ray STAGE CONFIG [--section.key value]`` for each of `STAGES`, and ``unet-ray verify URI``.

The only place, with ``jobs/``, that reads argv, sets up logging and connects to Ray. Heavy imports wait until a
command runs, so ``--help`` answers at once. Standard output carries one JSON line, the result; all else goes to
standard error. Exit codes: 0 done, 1 a fault of ours, 2 the user's to fix, 3 a result on the wrong side of
what ``compare`` or ``drift`` was asked for, 130 and 143 stopped by a signal (`signals`).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal, NoReturn, get_args, get_origin

from unet_ray import __version__
from unet_ray.access import is_submitted
from unet_ray.config import Config
from unet_ray.config_file import leaves, load_config, nearest, sections
from unet_ray.config_training import ClassWeights
from unet_ray.errors import ConfigError, UnetRayError
from unet_ray.signals import stoppable

STAGES = {
    "labels": "all masks of an input in, what is wrong with them and the labels that fit out",
    "prepare": "frames and masks in, a checked and sealed dataset out",
    "augment": "a prepared dataset in, a picture of what training will see of it out",
    "model": "a configuration in, its network as a table and a drawing out",
    "train": "a prepared dataset in, checkpoints and a history out",
    "tune": "a prepared dataset and a space of options in, a run for each trial and the best of them out",
    "plan": "frames and a checkpoint in, how long predict will take and what it will cost out",
    "predict": "frames and a checkpoint in, masks and counts out, exactly once",
    "report": "history and predictions in, one HTML page out",
    "pipeline": "prepare, train, predict and report in a row; what is complete is left alone",
}
_ON_RAY = {
    "labels": "unet_ray.doctor.run",
    "prepare": "unet_ray.prepare",
    "train": "unet_ray.train.run",
    "tune": "unet_ray.tuning",
    "predict": "unet_ray.predict.run",
    "pipeline": "unet_ray.stages",
}
_HERE = {
    "augment": "unet_ray.sheet.run",
    "model": "unet_ray.architecture.run",
    "plan": "unet_ray.predict.forecast",
    "report": "unet_ray.report.run",
}
_SUBMIT = "one of the above as a job of a cluster, followed to its end"
_SUBMIT_USAGE = "unet-ray submit [--address URL] [--env NAME] [--no-wait] STAGE CONFIG [--section.key VALUE ...]"
_DASHBOARD = "http://127.0.0.1:8265"
_VERIFY = "re-hash and recount a dataset or predictions table"
_COMPARE = "two predictions of the same frames in, how far they agree and what changed most out"
_DRIFT = "predictions in, how far their frames have shifted from those of the validation, or of other predictions, out"
_GATE = 3
_EXPORT = "predictions in, a picture file for each mask out"
_QUERY = "a table and SQL in, rows out"
_PICK = "predictions in, a list of the frames to label first out: uncertain ones, of rare classes, of all sequences"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``unet-ray`` command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in STAGES:
        return run_stage(arguments[0], arguments[1:])
    if arguments and arguments[0] == "submit":
        return _submit(arguments[1:])
    return stoppable(partial(_run_command, arguments), shlex.join(["unet-ray", *arguments]))


def run_stage(stage: str, argv: Sequence[str] | None = None) -> int:
    """Run one stage from its command line: a YAML file and overrides; returns the exit code.

    Args:
        stage: One of `STAGES`.
        argv: Arguments of ``unet-ray STAGE``; None takes those of the process, which is a script of ``jobs/``.
    """
    command = ["python", *sys.argv] if argv is None else ["unet-ray", stage, *argv]
    resume = "submit it again" if is_submitted(os.environ) else shlex.join(command)
    return stoppable(partial(_run_stage, stage, argv), resume)


def _run_command(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="unet-ray", description="Semantic segmentation as a distributed batch job on Ray.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in STAGES.items():
        commands.add_parser(name, help=purpose, add_help=False)
    commands.add_parser("submit", help=_SUBMIT, add_help=False)
    verify = commands.add_parser("verify", help=_VERIFY, description=_VERIFY)
    verify.add_argument("uri", help="URI of the table")
    verify.add_argument("--gc", action="store_true", help="delete parts that no manifest lists")
    compare = commands.add_parser("compare", help=_COMPARE, description=_COMPARE)
    compare.add_argument("first", help="URI of a table of predictions")
    compare.add_argument("second", help="URI of another, of the same frames")
    compare.add_argument("--at-least", type=float, metavar="MIOU", help=f"exit with {_GATE} where they agree less")
    drift = commands.add_parser("drift", help=_DRIFT, description=_DRIFT)
    drift.add_argument("uri", help="URI of a table of predictions")
    known = "URI of another by the same checkpoint, of known frames [those that the checkpoint was validated on]"
    drift.add_argument("reference", nargs="?", help=known)
    at_most = f"exit with {_GATE} where a number of all frames has shifted more, and not by chance"
    drift.add_argument("--at-most", type=float, metavar="INDEX", help=at_most)
    pick = commands.add_parser("pick", help=_PICK, description=_PICK)
    pick.add_argument("uri", help="URI of a table of predictions")
    pick.add_argument("output", help="URI of the CSV to write, a list as data.layout: list takes it")
    pick.add_argument("--count", type=int, default=100, help="how many frames to pick [100]")
    pick.add_argument("--gap", type=int, default=10, help="frames of a sequence as near as this show the same [10]")
    export = commands.add_parser("export", help=_EXPORT, description=_EXPORT)
    export.add_argument("uri", help="URI of a table of predictions")
    export.add_argument("folder", help="URI of the folder to write")
    kinds = ("index", "palette", "overlay")
    export.add_argument("--as", dest="kind", choices=kinds, default="index", help="what the files show [index]")
    export.add_argument("--where", metavar="SQL", help="condition on the columns of frames, such as miou < 0.5")
    query = commands.add_parser("query", help=_QUERY, description=_QUERY)
    query.add_argument("uri", help="URI of a dataset or predictions table")
    query.add_argument("sql", help="SELECT over frames, classes, by_group, quarantine, or rows, the table itself")
    try:
        options = parser.parse_args(arguments)
    except ConfigError as error:
        return _fail(error)
    match options.command:
        case "verify":
            return _guarded(lambda: _verify(options.uri, options.gc))
        case "query":
            return _guarded(lambda: _query(options.uri, options.sql))
        case "export":
            return _guarded(lambda: _export(options.uri, options.folder, options.kind, options.where))
        case "pick":
            return _guarded(lambda: _pick(options.uri, options.output, options.count, options.gap))
        case "drift":
            return _guarded(lambda: _drift(options.uri, options.reference), partial(_gate_drift, options.at_most))
    return _guarded(lambda: _compare(options.first, options.second), partial(_gate, options.at_least))


def _run_stage(stage: str, argv: Sequence[str] | None) -> int:
    try:
        config = _read_config(stage, argv)[2]
        if is_submitted(os.environ):
            from unet_ray import submit

            submit.check_places(config, submit.OUTPUTS)
        config = _absolute(config)
    except UnetRayError as error:
        return _fail(error)
    return _guarded(lambda: _run(stage, config))


def _read_config(stage: str, argv: Sequence[str] | None) -> tuple[str, list[str], Config]:
    """Return the path of the configuration file, as typed, the flags, a word for each, and what they all say."""
    namespace, unknown = stage_parser(stage).parse_known_args(argv)
    if unknown:
        option = unknown[0].partition("=")[0]
        hint = nearest(option.lstrip("-"), prefix="--")
        raise ConfigError(f"{option}: no such option{hint} (see unet-ray {stage} --help)")
    options = vars(namespace)
    path = options.pop("config")
    kinds = {key: field.type for key, field, _ in leaves()}
    typed = {key: _as_yaml(value, kinds[key]) for key, value in options.items() if value is not None}
    return path, [f"--{key}={value}" for key, value in typed.items()], load_config(path, typed)


def _submit(arguments: Sequence[str]) -> int:
    """Run ``unet-ray submit``: what is wrong with the command or the configuration is said before anything is sent."""
    parser = _Parser(prog="unet-ray submit", description=_SUBMIT, usage=_SUBMIT_USAGE, allow_abbrev=False)
    parser.add_argument(
        "--address", metavar="URL", help=f"of the cluster's dashboard [$RAY_API_SERVER_ADDRESS, {_DASHBOARD}]"
    )
    parser.add_argument(
        "--env",
        metavar="NAME",
        action="append",
        default=[],
        help="a variable of here that the job is to have; repeatable",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    parser.add_argument("stage", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("command", metavar="CONFIG ...", nargs=argparse.REMAINDER, help="as in unet-ray STAGE")
    try:
        options = parser.parse_args(arguments)
        if options.stage not in STAGES:
            raise ConfigError(
                f"{options.stage}: no such stage; take one of {', '.join(STAGES)} (see {parser.prog} --help)"
            )
        path, flags, config = _read_config(options.stage, options.command)
    except ConfigError as error:
        return _fail(error)
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS") or _DASHBOARD
    from unet_ray import submit

    name = submit.new_name(options.stage)

    def work() -> Mapping[str, Any]:
        submit.check_places(config)
        job = submit.Job(
            name=name, stage=options.stage, config_file=path, flags=flags,
            variables=submit.pick_variables(options.env, os.environ), modules=submit.own_modules(config),
        )  # fmt: skip
        return dataclasses.asdict(submit.run(address, job, os.environ, wait=not options.no_wait))

    follow = f"ray job logs --follow {name} --address {address} (the job runs on)"
    return stoppable(partial(_guarded, work, lambda result: result["exit_code"] or 0), follow)


def stage_parser(stage: str) -> argparse.ArgumentParser:
    """Return the parser of a stage: the configuration file, and a flag for every option with its default."""
    parser = _Parser(
        prog=f"unet-ray {stage}",
        usage=f"unet-ray {stage} CONFIG [--section.key VALUE ...]",
        description=f"{stage}: {STAGES[stage]}.",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file of the experiment; flags override it")
    groups = {name: parser.add_argument_group(name, cls.__doc__) for name, cls in sections()}
    for key, field, doc in leaves():
        kind, default = str(field.type), field.default
        shown = "null" if default is None else " ".join(map(str, default)) if isinstance(default, tuple) else default
        groups[key.partition(".")[0]].add_argument(
            f"--{key}",
            dest=key,
            metavar="|".join(get_args(field.type)) if get_origin(field.type) is Literal else "VALUE",
            nargs="+" if "tuple[" in kind and "dict[" not in kind else None,
            help=f"{doc} [{shown}]".replace("%", "%%"),
        )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message} (see {self.prog} --help)")


def _as_yaml(value: str | list[str], kind: Any) -> str:
    """Return a flag's value as YAML: the words of an option that takes several are a list, unless one is the whole."""
    if isinstance(value, str):
        return value
    whole = value[0].startswith("[") or value[0] in ("null", *get_args(ClassWeights)) or int in get_args(kind)
    return value[0] if len(value) == 1 and whole else f"[{', '.join(value)}]"


def _absolute(config: Config) -> Config:
    """Return the configuration with local paths made absolute: workers have other working directories."""
    from unet_ray import storage

    def resolve(section: Any, *keys: str) -> Any:
        found = {key: getattr(section, key) for key in keys}
        return dataclasses.replace(section, **{k: storage.absolute(v) for k, v in found.items() if v is not None})

    predict = resolve(config.predict, "images", "masks", "output")
    if predict.checkpoint not in ("best", "last"):
        predict = resolve(predict, "checkpoint")
    return dataclasses.replace(
        config,
        run=resolve(config.run, "storage"),
        data=resolve(config.data, "root", "dataset"),
        labels=resolve(config.labels, "centroids"),
        model=resolve(config.model, "encoder_weights"),
        train=resolve(config.train, "start_from"),
        report=resolve(config.report, "classic"),
        predict=predict,
    )


def _run(stage: str, config: Config) -> Mapping[str, Any]:
    if stage in _HERE:
        return dataclasses.asdict(import_module(_HERE[stage]).run(config))
    from unet_ray import runtime, storage

    outputs = {
        "labels": [f"{config.run_uri}/labels"],
        "prepare": [config.dataset_uri],
        "train": [config.train_uri],
        "tune": [f"{config.run_uri}/tune"],
        "predict": [config.predictions_uri],
        "pipeline": [config.run_uri, config.predictions_uri],
    }
    for uri in outputs[stage]:
        storage.check_output(uri, exclusive=not config.run.single_writer)
    with runtime.connected(meanwhile=lambda: import_module(_ON_RAY[stage])):
        return dataclasses.asdict(import_module(_ON_RAY[stage]).run(config))


def _verify(uri: str, collect_garbage: bool) -> Mapping[str, Any]:
    from unet_ray import storage
    from unet_ray.errors import TableError
    from unet_ray.table.verify import verify

    found = verify(storage.absolute(uri.rstrip("/")), collect_garbage=collect_garbage)
    if found.problems:
        raise TableError(f"{uri}: {len(found.problems)} problems: {'; '.join(found.problems[:5])}")
    return dataclasses.asdict(found)


def _pick(uri: str, output: str, count: int, gap: int) -> Mapping[str, Any]:
    from unet_ray import storage
    from unet_ray.pick import run

    return dataclasses.asdict(run(storage.absolute(uri.rstrip("/")), storage.absolute(output), count, gap))


def _export(uri: str, folder: str, kind: str, where: str | None) -> Mapping[str, Any]:
    from unet_ray import runtime, storage

    uris = [storage.absolute(one.rstrip("/")) for one in (uri, folder)]
    with runtime.connected(meanwhile=lambda: import_module("unet_ray.export")):
        return dataclasses.asdict(import_module("unet_ray.export").run(*uris, kind, where))


def _query(uri: str, sql: str) -> Mapping[str, Any]:
    from unet_ray import storage
    from unet_ray.query.run import run

    return dataclasses.asdict(run(storage.absolute(uri.rstrip("/")), sql))


def _compare(first: str, second: str) -> Mapping[str, Any]:
    from unet_ray import runtime, storage

    uris = [storage.absolute(uri.rstrip("/")) for uri in (first, second)]
    with runtime.connected(meanwhile=lambda: import_module("unet_ray.compare")):
        return dataclasses.asdict(import_module("unet_ray.compare").run(*uris))


def _gate(at_least: float | None, result: Mapping[str, Any]) -> int:
    """Return the exit code of a comparison; what nothing defines is not enough."""
    return 0 if at_least is None or (result["miou"] or 0.0) >= at_least else _GATE


def _drift(uri: str, reference: str | None) -> Mapping[str, Any]:
    from unet_ray import storage
    from unet_ray.drift import run

    known = None if reference is None else storage.absolute(reference.rstrip("/"))
    return dataclasses.asdict(run(storage.absolute(uri.rstrip("/")), known))


def _gate_drift(at_most: float | None, result: Mapping[str, Any]) -> int:
    """Return the exit code of a drift."""
    return 0 if at_most is None or result["largest"] <= at_most else _GATE


def _guarded(work: Callable[[], Mapping[str, Any]], code: Callable[[Mapping[str, Any]], int] = lambda result: 0) -> int:
    """Do the work with logging set up and output kept apart; turn errors into one line and a code."""
    out = sys.stdout
    from unet_ray.logs import set_up_logging

    set_up_logging(os.environ)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = work()
    except Exception as error:
        from unet_ray.runtime import our_error

        known = our_error(error)
        if known is None:
            raise
        return _fail(known)
    out.write(json.dumps(result, ensure_ascii=False) + "\n")
    out.flush()
    return code(result)


def _fail(error: UnetRayError) -> int:
    from unet_ray.logs import complain

    complain(str(error), os.environ)
    return 2
