"""Python and the packages, held against what this version requires of them."""

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from unet_ray.config import Config
from unet_ray.doctor.finding import Finding, ok, problem, warning

_US = "unet-ray"
_FOR_DEVELOPERS = "dev"


def check_packages(config: Config | None) -> Iterator[Finding]:
    """Yield what is found of Python, of the packages that are required, and of those of each extra."""
    try:
        ours = metadata.metadata(_US)
    except metadata.PackageNotFoundError:
        yield warning("packages", f"{_US} is not installed, which would say what it requires", "pip install -e .")
        return
    python, wanted = platform.python_version(), ours["Requires-Python"]
    fits = SpecifierSet(wanted).contains(python, prereleases=True)
    yield ok("python", python) if fits else problem("python", f"{python}, needs {wanted}", "install another")
    requirements = [Requirement(text) for text in metadata.requires(_US) or ()]
    required = [one for one in requirements if _applies(one, "")]
    faults = [problem("packages", fault, f"pip install '{one}'") for one in required if (fault := _fault(one))]
    yield from faults or [ok("packages", f"{len(required)} as required")]
    for extra in ours.get_all("Provides-Extra") or ():
        if extra != _FOR_DEVELOPERS:
            its_own = [one for one in requirements if _applies(one, extra) and one not in required]
            needed = extra == "mlflow" and config is not None and config.train.mlflow_experiment is not None
            yield _check_extra(extra, its_own, needed)


def _check_extra(extra: str, requirements: list[Requirement], needed: bool) -> Finding:
    name, fix = f"[{extra}]", f"pip install '{_US}[{extra}]'"
    faults = [fault for one in requirements if (fault := _fault(one))]
    if not faults:
        return ok(name, ", ".join(f"{one.name} {metadata.version(one.name)}" for one in requirements))
    if needed:
        return problem(name, f"asked for: {', '.join(faults)}", fix)
    if all(_version(one) is None for one in requirements):
        return ok(name, f"not installed, as nobody needs it ({fix})")
    return warning(name, ", ".join(faults), fix)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _fault(requirement: Requirement) -> str | None:
    """Return what is wrong with a package, None where it is as required."""
    version = _version(requirement)
    if version is None:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version}, needs {requirement.specifier}"


def _version(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None
