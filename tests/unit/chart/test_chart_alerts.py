"""Every alert asks for metrics that somebody exports, and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from chart.rendering import CHART, ROOT, Rendered

Chart = Callable[..., Rendered]
ALERTS = sorted((CHART / "alerts").glob("*.yaml"))
SOURCES = [ROOT / f"{name}/framegrid_{name}/metrics.py" for name in ("ingest", "serve", "store")]


def exported() -> set[str]:
    """Names as Prometheus shows them, from the sources: counters end in _total, histograms in _bucket."""
    found: set[str] = set()
    for path in SOURCES:
        text = path.read_text()
        names = set(re.findall(r'"(framegrid_[a-z_]+)"', text))
        names |= {
            f"framegrid_store_{name}" for name in re.findall(r'_(?:gauge|counter|labelled)\(\s*"(\w+)"', text)
        }
        found |= {f"{name}{suffix}" for name in names for suffix in ("", "_total", "_bucket")}
    return found


@pytest.mark.parametrize("path", ALERTS, ids=lambda p: p.stem)
def test_an_alert_asks_for_metrics_that_are_exported(path: Any) -> None:
    alert = yaml.safe_load(path.read_text())
    asked = set(re.findall(r"framegrid_[a-z_]+", alert["expr"]))
    assert asked
    assert asked <= exported()


@pytest.mark.parametrize("path", ALERTS, ids=lambda p: p.stem)
def test_an_alert_has_a_severity_a_summary_and_what_to_do(path: Any) -> None:
    alert = yaml.safe_load(path.read_text())
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert len(alert["annotations"]["summary"]) > 20
    assert len(alert["annotations"]["runbook"]) > 20


def test_the_rule_holds_every_alert_for_its_namespace_alone(chart: Chart) -> None:
    rule = chart("ray.mode=static", "monitoring.prometheusRule.enabled=true").one("PrometheusRule")
    (group,) = rule["spec"]["groups"]
    assert len(group["rules"]) == len(ALERTS)
    assert all('namespace="cameras"' in alert["expr"] for alert in group["rules"])


def test_what_is_scraped_is_a_port_of_the_pod(chart: Chart) -> None:
    for mode in ("static", "kuberay"):
        rendered = chart(f"ray.mode={mode}", "monitoring.podMonitor.enabled=true")
        ports = {p["name"] for _, c in rendered.containers() for p in c.get("ports", [])}
        for monitor in rendered.of("PodMonitor"):
            assert {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]} <= ports
