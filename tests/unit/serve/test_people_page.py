"""The page and the documents beside it: everything comes from the package, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from framegrid_serve.people.app import STATIC
from people.api import People

MakePeople = Callable[..., People]
TEXTS = sorted(path for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js"))


class References(HTMLParser):
    """What a page loads, its ids, and what refers to them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.named: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        assert not [key for key in values if key.startswith("on")], "inline code is against the page's policy"
        if tag in ("script", "img", "link"):
            self.loaded.append(values.get("src") or values.get("href") or "")
        if "id" in values:
            self.ids.append(values["id"])
        self.named += [values[key] for key in ("for", "aria-controls", "aria-labelledby") if key in values]


def test_the_page_and_all_it_loads_come_from_the_package(make_people: MakePeople) -> None:
    people = make_people()
    page = people.call("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = References(page.body.decode()).loaded
    assert "static/page.js" in loaded
    for address in loaded:
        assert people.call("GET", f"/{address}").status == 200, address
    for script in STATIC.glob("*.js"):
        for imported in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (STATIC / imported).is_file()
    assert people.call("HEAD", "/").status == 200


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    assert re.findall(r"https?://[^\s\"')]+|//[a-z0-9.-]+\.[a-z]{2,}/", text) == []


def test_every_id_that_the_scripts_name_is_in_the_page_once() -> None:
    page = References((STATIC / "index.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    assert set(page.named) <= set(page.ids)
    scripts = "".join(path.read_text() for path in STATIC.glob("*.js"))
    for name in re.findall(r'\$\("([a-z-]+)"\)', scripts):
        assert name in page.ids, name


def test_openapi_tells_every_route_and_its_docs_need_no_other_server(make_people: MakePeople) -> None:
    people = make_people()
    told = json.loads(people.call("GET", "/openapi.json").body)
    assert {"/predict", "/models", "/limits", "/videos", "/videos/{video}"} <= set(told["paths"])
    predict = told["paths"]["/predict"]["post"]
    assert {p["name"] for p in predict["parameters"]} == {
        "model",
        "min_score",
        "classes",
        "annotate",
        "timeout_s",
    }
    assert {"multipart/form-data", "image/jpeg", "application/json"} <= set(predict["requestBody"]["content"])
    assert "class" in told["components"]["schemas"]["Box"]["properties"]
    docs = people.call("GET", "/docs").body.decode()
    for address in re.findall(r'(?:src|href)="([^"]+)"', docs):
        assert address.startswith("/"), address
        assert people.call("GET", address).status == 200, address


def test_other_sites_may_call_only_when_they_are_named(make_people: MakePeople) -> None:
    headers = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in make_people().call("GET", "/models", headers=headers).headers
    allowed = make_people(cors_origins=("https://shop.example",))
    answer = allowed.call("GET", "/models", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    other = allowed.call("GET", "/models", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    asked = {
        **headers,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert allowed.call("OPTIONS", "/predict", headers=asked).status == 200


def test_one_dependency_guards_every_route(make_people: MakePeople, monkeypatch: pytest.MonkeyPatch) -> None:
    from framegrid_serve.people import access
    from framegrid_serve.people.refusal import RefusedError

    people = make_people()

    async def closed() -> access.Caller:
        raise RefusedError(401, "expected a token, got none")

    people.api.app.dependency_overrides[access.caller] = closed
    for method, path in (
        ("GET", "/"), ("POST", "/predict"), ("GET", "/models"), ("GET", "/limits"),
        ("POST", "/videos"), ("GET", "/videos/x"), ("DELETE", "/videos/x"), ("GET", "/videos/x/result.json"),
    ):  # fmt: skip
        assert people.call(method, path).status == 401, path


def test_the_wire_route_stays_beside_the_api(make_people: MakePeople) -> None:
    people = make_people()
    assert people.call("POST", "/v1/detect", b"junk" + bytes(60)).status == 400
    assert people.call("GET", "/healthz").json() == {"status": "ok"}
    assert people.call("GET", "/v1/models").json() == people.call("GET", "/models").json()
    assert people.service.totals.requests == {400: 1, 200: 3}
