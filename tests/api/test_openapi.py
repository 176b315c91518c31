"""The document describes what is there: every route, its problems, its examples, and nothing dangling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

import httpx2
import jsonschema
import pytest
from playwright.async_api import async_playwright
from tests.api.conftest import Door

from cpa.executors.web.browser import find_browser
from cpa.ports.keys import Scope


@pytest.fixture
async def document(door: Door) -> Any:
    async with door.client() as stranger:
        return (await stranger.get("/openapi.json")).json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_promised_route_is_there(document: dict[str, Any]) -> None:
    assert {(method, path) for path, method, _ in operations(document)} == {
        ("post", "/schedule"),
        ("post", "/jobs"),
        ("get", "/jobs"),
        ("get", "/jobs/{job_id}"),
        ("delete", "/jobs/{job_id}"),
        ("post", "/jobs/{job_id}/cancel"),
        ("post", "/jobs/{job_id}/retry"),
        ("get", "/jobs/{job_id}/tasks"),
        ("get", "/jobs/{job_id}/explain"),
        ("get", "/jobs/{job_id}/events"),
        ("get", "/questions"),
        ("get", "/questions/{question_id}"),
        ("post", "/questions/{question_id}"),
        ("get", "/approvals"),
        ("post", "/approvals/{question_id}"),
        ("get", "/dead-letters"),
        ("post", "/dead-letters/{job_id}"),
        ("post", "/dead-letters/{job_id}/retry"),
        ("post", "/dead-letters/{job_id}/discard"),
        ("post", "/agents/register"),
        ("post", "/agents/{agent_id}/heartbeat"),
        ("get", "/agents"),
        ("get", "/agents/{agent_id}"),
        ("delete", "/agents/{agent_id}"),
        ("post", "/agents/{agent_id}/state"),
        ("post", "/lam/message"),
        ("post", "/artifacts"),
        ("get", "/artifacts/{digest}"),
        ("get", "/audit"),
        ("get", "/audit/verify"),
        ("get", "/health"),
        ("get", "/metrics"),
    }


def test_every_route_has_tag_summary_and_problems(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, _, operation in operations(document):
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        if path == "/health":
            continue
        assert operation["security"] == [{"ApiKey": []}]
        assert {"401", "403", "500"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert set(response["content"]) == {"application/problem+json"}, (path, status)


def test_every_route_says_what_may_become_of_its_body_and_that_the_store_may_be_away(
    document: dict[str, Any],
) -> None:
    for path, method, operation in operations(document):
        answers, content = set(operation["responses"]), operation.get("requestBody", {}).get("content", {})
        if path != "/health":
            assert "503" in answers, (method, path)
        if content:
            assert {"400", "408", "413", "415"} <= answers, (method, path)
        if "application/json" in content:
            assert "422" in answers, (method, path)


def test_no_reference_dangles(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    wanted = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert wanted <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in text


async def test_every_example_of_a_body_is_taken(document: dict[str, Any], door: Door) -> None:
    async with door.client(await door.key(Scope.ADMIN, name="agent://user/anna")) as client:
        for path, method, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [entry["value"] for entry in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            for example in examples:
                schema = content["schema"] | {"components": document["components"]}
                jsonschema.validate(example, schema)
                response = await client.request(method, path, json=example)
                assert response.status_code in (200, 201, 404, 422), (path, response.text)
                if "{" not in path and response.status_code == 422:
                    assert response.json()["code"] == "unknown_intent", (path, response.text)


async def test_the_documentation_page_points_to_the_document(door: Door) -> None:
    async with door.client() as stranger:
        page = await stranger.get("/docs")

    assert (page.status_code, "/openapi.json" in page.text) == (200, True)


async def test_the_address_alone_leads_to_the_documentation(door: Door) -> None:
    async with door.client() as stranger:
        answer = await stranger.get("/")

    assert (answer.status_code, answer.headers["location"]) == (307, "docs")


async def test_the_documentation_page_needs_nothing_from_elsewhere(door: Door) -> None:
    """Neither a script nor a style nor a picture of another host: it is whole without internet."""
    async with door.client() as stranger:
        page = await stranger.get("/docs")

    pulled = re.findall(r'<(?:script|link|img|iframe|object|source)[^>]*?(?:src|href)="([^"]*)"', page.text)
    assert [address for address in pulled if not address.startswith("data:")] == []
    assert "<script" not in page.text
    assert "@import" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_the_documentation_page_tells_everything(document: dict[str, Any], door: Door) -> None:
    async with door.client() as stranger:
        page = (await stranger.get("/docs")).text

    for path, method, operation in operations(document):
        assert f"<code>{method.upper()} {path}</code>" in page
        assert escape(operation["summary"]) in page
    assert 'One of: <a href="#model-TakeUp">TakeUp</a> or <a href="#model-GiveUp">GiveUp</a>.' in page
    assert "<code>&quot;discard&quot;</code>" in page
    targets, places = re.findall(r'href="#([^"]+)"', page), re.findall(r' id="([^"]+)"', page)
    assert set(targets) <= set(places)
    assert len(places) == len(set(places))


@pytest.mark.browser
async def test_the_documentation_page_renders_without_internet(door: Door) -> None:
    """In a real browser that reaches nobody: text is shown, a link leads to its place, the keyboard to it."""
    async with door.client() as stranger:
        text = (await stranger.get("/docs")).text
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser())
        page = await browser.new_page(offline=True)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.set_content(text)
        shown = await page.locator("main").inner_text()
        await page.keyboard.press("Tab")
        focused = await page.evaluate("document.activeElement.textContent")
        box = await page.get_by_role("heading", name="POST /schedule").bounding_box()
        await browser.close()

    assert "Every request but GET /health needs the header X-API-Key" in shown
    assert focused == "Skip to content"
    assert box is not None
    assert box["height"] > 0
    assert [url for url in asked if not url.startswith("data:")] == []


async def test_answers_have_the_documented_shape(document: dict[str, Any], api: httpx2.AsyncClient) -> None:
    body = {"task_graph": [{"id": "a", "action": "flow.noop", "arguments": {"value": 1}}]}
    created = await api.post("/jobs", json=body)
    job = created.json()["job_id"]
    await api.get(f"/jobs/{job}", params={"wait": 5})
    about = {"name": "eins", "type": "WEB", "capabilities": ["web.click", "outlook"]}
    registered = await api.post("/agents/register", json=about)
    agent = f"/agents/{registered.json()['agent_id']}"
    answers = {
        ("/jobs", "post", "201"): created,
        ("/jobs/{job_id}", "get", "200"): await api.get(f"/jobs/{job}"),
        ("/jobs", "get", "200"): await api.get("/jobs"),
        ("/jobs/{job_id}/tasks", "get", "200"): await api.get(f"/jobs/{job}/tasks"),
        ("/jobs/{job_id}/events", "get", "200"): await api.get(f"/jobs/{job}/events"),
        ("/jobs/{job_id}/explain", "get", "200"): await api.get(f"/jobs/{job}/explain"),
        ("/jobs/{job_id}", "delete", "200"): await api.delete(f"/jobs/{job}"),
        ("/jobs", "post", "200"): await api.post("/jobs", json=body | {"dry_run": True}),
        ("/agents/register", "post", "201"): registered,
        ("/agents/{agent_id}/heartbeat", "post", "200"): await api.post(f"{agent}/heartbeat", json={}),
        ("/agents", "get", "200"): await api.get("/agents"),
        ("/agents/{agent_id}", "get", "200"): await api.get(agent),
        ("/agents/{agent_id}/state", "post", "200"): await api.post(
            f"{agent}/state", json={"state": "draining"}
        ),
        ("/agents/{agent_id}", "delete", "200"): await api.delete(agent),
        ("/questions", "get", "200"): await api.get("/questions"),
        ("/dead-letters", "get", "200"): await api.get("/dead-letters"),
        ("/audit", "get", "200"): await api.get("/audit"),
        ("/audit/verify", "get", "200"): await api.get("/audit/verify"),
        ("/artifacts", "post", "201"): await api.post("/artifacts", content=b"x"),
        ("/health", "get", "200"): await api.get("/health"),
    }
    for (path, method, status), response in answers.items():
        schema = document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
        assert str(response.status_code) == status
        jsonschema.validate(response.json(), schema | {"components": document["components"]})
