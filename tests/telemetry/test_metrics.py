"""Figures as Prometheus reads them: parsed by the parser of its own library."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cpa.telemetry.metrics import Figure, exposition


def series(*figures: Figure) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """By name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(figures).decode())
        for sample in family.samples
    }


def test_gauges_and_counters_come_with_help_labels_and_values() -> None:
    agents = {("online", 'Bürö "1"\n'): 2.5, ("offline", ""): 0}
    figures = (
        Figure.one("cpa_dead_letters", "Was \\ wartet.", 7),
        Figure("cpa_ended_total", "Ended.", agents, ("status", "where")),
    )

    found = {each.name: each for each in text_string_to_metric_families(exposition(figures).decode())}

    gauge, counter = found["cpa_dead_letters"], found["cpa_ended"]
    assert (gauge.type, gauge.documentation, gauge.samples[0].value) == ("gauge", "Was \\ wartet.", 7)
    assert counter.type == "counter"
    assert [(each.name, each.labels, each.value) for each in counter.samples] == [
        ("cpa_ended_total", {"status": "online", "where": 'Bürö "1"\n'}, 2.5),
        ("cpa_ended_total", {"status": "offline", "where": ""}, 0),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="the library reads /proc")
def test_the_process_tells_of_itself() -> None:
    found = series()

    assert found["process_resident_memory_bytes", frozenset()] > 10_000_000
    assert found["process_cpu_seconds_total", frozenset()] > 0
    assert found["process_open_fds", frozenset()] > 2


def test_the_library_is_loaded_when_the_first_figures_are_asked_for() -> None:
    """It takes a hundred milliseconds of a start that few servers have use for."""
    script = (
        "import sys, cpa.bootstrap; from cpa.telemetry.metrics import exposition; "
        "assert 'prometheus_client' not in sys.modules; exposition(()); "
        "assert 'prometheus_client' in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
