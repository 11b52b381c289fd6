import json
import re
from pathlib import Path

from unet_ray.monitoring import SERIES, make_dashboard

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana.json"


def test_names_are_prometheus_names_and_none_is_there_twice() -> None:
    assert len({series.name for series in SERIES}) == len(SERIES)
    assert all(re.fullmatch(r"unet_ray_[a-z_]+", series.name) for series in SERIES)
    assert not any(series.name.endswith("_total") for series in SERIES)  # Ray appends it
    labels = [label for series in SERIES for label in series.tags]
    assert not {"job", "instance", "command", "run"} & set(labels)  # Prometheus's own, and those of all


def test_the_dashboard_that_is_shipped_shows_every_series() -> None:
    shipped = json.loads(DASHBOARD.read_text())
    assert shipped == make_dashboard(), "make cluster/grafana.json anew: python -m unet_ray.monitoring"
    expressions = [panel["targets"][0]["expr"] for panel in shipped["panels"]]
    for series, expression in zip(SERIES, expressions, strict=True):
        assert f"ray_{series.name}{'_total' if series.kind == 'counter' else ''}{{" in expression
        assert expression.count("(") == expression.count(")")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in shipped["panels"]]
    assert len(set(places)) == len(places)
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in shipped["panels"]) == 24
