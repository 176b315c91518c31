"""Figures for Prometheus: what is told of the server, in the text format that everything reads.

No label has values without bound: no id of a job, no name of an agent, no tenant. The library is loaded when the
first figures are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric and its series."""

    name: str
    """As Prometheus wants it: base units, and of a counter the end `_total`."""
    help: str
    series: Mapping[tuple[str, ...], float]
    """By the values of the labels; the only one of a figure without labels has none."""
    labels: tuple[str, ...] = ()

    @classmethod
    def one(cls, name: str, help: str, value: float) -> Figure:
        """Without labels."""
        return cls(name, help, {(): value})


def exposition(figures: Iterable[Figure]) -> bytes:
    """These figures and those of the process (memory, processor, files, collector), as `CONTENT_TYPE`. Reads of the
    system: call it in a thread."""
    from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import Collector

    class Given(Collector):
        def collect(self) -> Iterable[Metric]:
            for figure in figures:
                family = CounterMetricFamily if figure.name.endswith("_total") else GaugeMetricFamily
                metric = family(figure.name, figure.help, labels=figure.labels)
                for values, value in figure.series.items():
                    metric.add_metric(values, value)
                yield metric

    registry = CollectorRegistry()
    for collector in (Given(), PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR):
        registry.register(collector)
    return generate_latest(registry)
