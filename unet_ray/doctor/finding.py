"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A check, what it found, and what to do about it, which is nothing where it is ok.

    A job goes on in spite of a warning; a problem would stop it.
    """

    check: str
    status: Status
    found: str
    fix: str | None = None

    def __str__(self) -> str:
        """Say it in a line, without the status."""
        return f"{self.check:16} {self.found}" + (f"; {self.fix}" if self.fix else "")


def ok(check: str, found: str) -> Finding:
    """Return what is as it should be."""
    return Finding(check=check, status="ok", found=found)


def warning(check: str, found: str, fix: str | None = None) -> Finding:
    """Return what makes jobs slower or less certain."""
    return Finding(check=check, status="warning", found=found, fix=fix)


def problem(check: str, found: str, fix: str | None = None) -> Finding:
    """Return what would stop a job; ``fix`` is None where ``found`` is an error that tells it."""
    return Finding(check=check, status="problem", found=found, fix=fix)
