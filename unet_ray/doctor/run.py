"""Check after check, each said as soon as it is known. Runs on the driver; connects to Ray where a cluster is named."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unet_ray.config import Config
from unet_ray.doctor.finding import Finding, Status
from unet_ray.doctor.machine import check_machine
from unet_ray.doctor.packages import check_packages
from unet_ray.doctor.places import check_cluster, check_places
from unet_ray.logs import printable
from unet_ray.terminal import Style, has_colours, paint

_STYLES: Mapping[Status, Style] = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True, kw_only=True)
class DoctorResult:
    """What was found: ``problems`` would stop a job."""

    problems: int
    warnings: int
    findings: tuple[Finding, ...]


def run(config: Config | None) -> DoctorResult:
    """Check the environment, and the places of a configuration, if there is one, and print a line for each check.

    Outputs are tried by writing a small object into them (`storage.check_output`).
    """
    findings = []
    for finding in _check(config):
        sys.stderr.write(_line(finding))
        sys.stderr.flush()
        findings.append(finding)
    problems, warnings = ([one.status for one in findings].count(status) for status in ("problem", "warning"))
    sys.stderr.write(f"\n{problems} problem(s), which would stop a job, and {warnings} warning(s)\n")
    return DoctorResult(problems=problems, warnings=warnings, findings=tuple(findings))


def _check(config: Config | None) -> Iterator[Finding]:
    yield from check_packages(config)
    yield from check_machine()
    yield check_cluster(os.environ)
    if config is not None:
        yield from check_places(config)


def _line(finding: Finding) -> str:
    status = f"{finding.status:8}"
    if has_colours(sys.stderr, os.environ):
        status = paint(status, _STYLES[finding.status])
    return f"{status} {printable(str(finding))}\n"
