"""``unet-ray verify``."""

import dataclasses
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser, place
from unet_ray.errors import TableError


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of the table")
    parser.add_argument("--gc", action="store_true", help="delete parts that no manifest lists")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.table.verify import verify

    found = verify(place(options.uri), collect_garbage=options.gc)
    if found.problems:
        raise TableError(f"{options.uri}: {len(found.problems)} problems: {'; '.join(found.problems[:5])}")
    rows = f"{found.num_rows} rows, {found.num_ok} ok and {found.num_quarantined} quarantined"
    orphans = f"; {len(found.orphans)} more are of no use (--gc)" if len(found.orphans) > found.removed else ""
    sys.stderr.write(f"{rows}, as they were sealed, in {found.num_parts} parts{orphans}\n")
    return dataclasses.asdict(found)


VERIFY = Command(
    name="verify",
    purpose="re-hash and recount a dataset or predictions table",
    example="runs/camvid/predictions",
    arguments=_arguments,
    work=_work,
)
