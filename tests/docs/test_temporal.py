"""The files for a Temporal server in production say what the engine needs, and the page beside them the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from tests.servers.temporal import TUNING

from cpa.engines.temporal.versions import build_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "temporal"
PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")


def production() -> dict[str, Any]:
    """The server's settings, as it reads them: with the password put in."""
    text = (FOLDER / "production.yaml").read_text("utf-8")
    assert "enable-template" in text.splitlines()[0], "else the server takes the braces for YAML"
    filled, count = re.subn(r"\{\{ env \"TEMPORAL_DB_PASSWORD\" \| quote \}\}", '"secret"', text)
    assert count == 1
    loaded: dict[str, Any] = yaml.safe_load(filled)
    return loaded


def dynamic() -> dict[str, object]:
    loaded = yaml.safe_load((FOLDER / "dynamic.yaml").read_text("utf-8"))
    for values in loaded.values():
        assert [list(value) for value in values] == [["value"]], "for all namespaces alike"
    return {name: value["value"] for name, [value] in loaded.items()}


def test_jobs_and_lists_are_kept_by_postgresql_over_tls() -> None:
    persistence = production()["persistence"]
    stores = {name: store["sql"] for name, store in persistence["datastores"].items()}

    assert {persistence["defaultStore"], persistence["visibilityStore"]} == set(stores)
    assert {store["pluginName"] for store in stores.values()} == {"postgres12"}
    assert {store["databaseName"] for store in stores.values()} == {"temporal", "temporal_visibility"}
    assert all(f"--db {store['databaseName']} update-schema" in PAGE for store in stores.values())
    assert all(store["tls"]["enableHostVerification"] is True for store in stores.values())
    # Four services have connections of their own each.
    most = int(re.search(r"max_connections = (\d+)", PAGE)[1])  # type: ignore[index]
    assert 4 * sum(store["maxConns"] for store in stores.values()) < most


def test_nobody_gets_in_without_a_certificate() -> None:
    tls = production()["global"]["tls"]
    servers = [tls["frontend"]["server"], tls["internode"]["server"]]
    own = tls["systemWorker"]

    assert all(server["requireClientAuth"] is True and server["clientCaFiles"] for server in servers)
    assert own["certFile"], "the server's own worker has to get in too"
    # Parts call each other at addresses, which stand in no certificate.
    assert own["client"]["serverName"] == tls["internode"]["client"]["serverName"]
    assert f"CPA_TEMPORAL_ADDRESS={own['client']['serverName']}:7233" in PAGE


def test_what_the_tests_tell_their_server_the_production_is_told_too() -> None:
    told = {name: str(value).lower() for name, value in dynamic().items()}

    assert dict(each.split("=") for each in TUNING).items() <= told.items()
    assert production()["dynamicConfigClient"]["filepath"] == "/etc/temporal/dynamic.yaml"


def test_the_page_explains_each_value_that_is_set() -> None:
    rows = dict(
        re.findall(r"^\| `((?:frontend|history|matching)\.[\w.]+)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    )

    assert rows == {name: str(value).lower() for name, value in dynamic().items()}


def test_the_page_names_the_build_of_this_program() -> None:
    assert re.findall(r"`([\d.]+-logic\d+)`", PAGE) == [build_of("")]
