from pathlib import Path

import pytest

from tests.unit.inline_table import begin, finish, keys, produce
from unet_ray import storage
from unet_ray.errors import TableError
from unet_ray.table.plan import Plan
from unet_ray.table.seals import Seal, seal_shard


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return begin(f"{tmp_path}/t")


def test_a_seal_reads_back_as_it_was_written(plan: Plan) -> None:
    seal = seal_shard(plan, 0, list(produce(plan, plan.units([0]))))
    assert Seal.from_json(seal.to_json(), "here") == seal
    assert [(part.num_rows, part.num_ok) for part in seal.parts] == [(2, 2), (2, 1)]
    assert (seal.errors, seal.totals["ignored_pixels"]) == ({"truncated": 1}, [2])


def test_a_damaged_seal_stops_the_job_and_is_named(plan: Plan) -> None:
    seal_shard(plan, 1, list(produce(plan, plan.units([1]))))
    path = Path(f"{plan.uri}/_seals/000001.json")
    path.write_bytes(path.read_bytes().replace(b'"num_ok": 2', b'"num_ok": 1'))
    with pytest.raises(TableError, match=rf"{path}: the file changed after it was written \(sha256 differs\)"):
        finish(plan)


def test_a_shard_that_another_plan_sealed_is_refused(plan: Plan) -> None:
    stranger = Seal(run_id="another", shard=1, attempt="a", parts=(), errors={}, totals={})
    storage.create(f"{plan.uri}/_seals/000001.json", stranger.to_json())
    with pytest.raises(TableError, match=rf"{plan.uri}/_seals/000001.json: this shard was sealed by another plan"):
        finish(plan)
    assert not any(key.startswith("data/") for key in keys(plan.uri))
