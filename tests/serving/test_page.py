"""The page in a real browser, before a real service: headless Chromium through Playwright."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Gated, running, soon, waiting

from bessemer.encoders.dense import DenseEncoder
from bessemer.questions.own import own_questions
from bessemer.search.index import Index, open_index
from bessemer.search.index_build import build_index
from bessemer.serving.service import Served
from bessemer.types import Passage
from lane_models import unified_minilm

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = api.expect
CHROMIUM = os.environ.get("BESSEMER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (scripts/install_chromium.sh)")

QUESTION = "How often may the pump start?"
ATTACK = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'> \x1b[31m\u202egnp.exe"
LINK = "javascript:window.taken=1"
PASSAGES = (
    Passage("pump", "pump.md", "Pump\nThe pump may start twelve times an hour. Then the controller locks the motor."),
    Passage("codes", "codes.md", "Codes\nCode E17 means that the motor is locked until the pump has cooled down."),
    Passage("filter", "filter.md", "Filter\n" + "Rinse the filter with clear water every month. " * 30,
            metadata={"year": 2024, "site": "north"}),
    Passage("中文", "中文.md", "过滤器\n每个月用清水冲洗过滤器，晾干以后再装回去，不要使用热水。"),
    Passage(f"id {ATTACK[:20]}", "attack.md", f"Attack {ATTACK}\nInvoices {ATTACK}",
            metadata={ATTACK: LINK, "url": LINK}),
)  # fmt: skip

Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "feedback.jsonl"


@pytest.fixture(scope="module")
def service(minilm: DenseEncoder, feedback: Path) -> Iterator[httpx.Client]:
    """Two indexes of the same passages: minilm, and minilm with heads for tokens."""
    indexes: dict[str, Index] = {}
    for name, encoder in (("base", minilm), ("tuned", unified_minilm())):
        build_index(feedback.parent / name, PASSAGES, encoder, "minilm")
        indexes[name] = open_index(feedback.parent / name, encoder)
    with running(Served("minilm", minilm, ("dense",), indexes=indexes), feedback=str(feedback)) as client:
        yield client


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens the page of a service. In the end no page has said a fault, or asked anything of anybody else."""
    contexts, faults = [], []

    def opened(client: httpx.Client, **settings: Any) -> Any:
        origin = str(client.base_url)
        contexts.append(browser.new_context(**{"locale": "en-GB", **settings}))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda asked: None if is_own(asked.url, origin) else faults.append(asked.url))
        page.goto(origin)
        return page

    yield opened
    for context in contexts:
        context.close()
    refused = re.compile(
        "Failed to load resource: (the server responded with a status of (401|422|429|503)|net::ERR_CON)"
    )
    assert [fault for fault in faults if not refused.match(fault)] == []


def is_own(url: str, origin: str) -> bool:
    """Without a query string, too: nothing of a search or a key goes into an address."""
    return url == "data:," or (url.startswith(f"{origin}/") and "?" not in url)


def searched(page: Any, query: str = QUESTION) -> Any:
    """The columns."""
    page.fill("#query", query)
    page.keyboard.press("Enter")
    expect(page.locator("#columns")).to_have_attribute("aria-busy", "false")
    return page.locator("#columns section")


def test_from_hit_to_hit_by_keyboard(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    expect(page.locator("#query")).to_be_focused()
    page.locator("#language").focus()
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    hits = page.locator("section").first.locator(".hit")
    expect(hits).to_have_count(5)
    page.keyboard.press("ArrowDown")
    expect(hits.nth(0)).to_be_focused()
    expect(hits.nth(0)).to_have_css("outline-style", "solid")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    expect(hits.nth(2)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("section").nth(1).locator(".hit").nth(2)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    for key in "kk":
        page.keyboard.press(key)
    expect(hits.nth(0)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("jk/")
    expect(page.locator("#query")).to_have_value(f"{QUESTION}jk/")


def test_two_indexes_side_by_side(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    columns = searched(page)
    assert [title.split()[0] for title in columns.locator("h2").all_inner_texts()] == ["base", "tuned"]
    ranked = {}
    for name in ("base", "tuned"):
        hits = service.post("/search", json={"query": QUESTION, "index": name}).json()["hits"]
        ranked[name] = [hit["passage_id"] for hit in hits]
    for column, (name, other) in enumerate((("base", "tuned"), ("tuned", "base"))):
        told = columns.nth(column).locator(".elsewhere").all_inner_texts()
        for place, passage_id in enumerate(ranked[name]):
            rank = ranked[other].index(passage_id) + 1
            higher = rank - (place + 1)
            places = f"{abs(higher)} place{'s' * (abs(higher) > 1)} {'higher' if higher > 0 else 'lower'} than"
            assert told[place] == f"{places if higher else 'same place as'} in {other} (#{rank})"
    first = columns.nth(0).locator(".hit").first
    assert first.locator("h3").inner_text() == "Pump"
    assert re.fullmatch(r"score 0\.03\d+", first.locator(".score").inner_text())
    assert re.fullmatch(r"dense #1 \(0\.\d+\)", first.locator(".lane").first.inner_text())

    page.fill("#top-k", "1")
    page.get_by_role("checkbox", name="tuned").uncheck()
    assert searched(page).locator(".hit").count() == 1
    page.get_by_role("checkbox", name="base").uncheck()
    searched(page)
    expect(page.locator("#alert")).to_have_text("Choose at least one index.")


def test_a_filter_and_long_texts(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    page.fill("#where", "year>=2024; site=north")
    columns = searched(page)
    hit = columns.nth(0).locator(".hit")
    expect(hit).to_have_count(1)
    assert hit.locator(".metadata").all_inner_texts() == ["year 2024", "site north"]
    folded = hit.locator(".text").bounding_box()["height"]
    hit.focus()
    page.keyboard.press("Enter")
    expect(hit.locator(".fold")).to_have_text("Show less")
    assert hit.locator(".text").bounding_box()["height"] > 2 * folded
    page.fill("#where", "year is new")
    told = "The service refused (422): where: write FIELD=VALUE, or !=, >=, <=, > or < in place of ="
    assert searched(page).locator("[role=alert]").all_inner_texts() == [told, told]
    page.fill("#where", "year>2024")
    assert searched(page).locator(".note").all_inner_texts() == ["Nothing was found."] * 2


def test_explanations(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    columns = searched(page)
    columns.nth(0).locator(".why").first.click()
    expect(columns.nth(0).locator(".explanation").first).to_contain_text("of unified models only")
    body = {"query": QUESTION, "index": "tuned", "explain": True}
    own = service.post("/search", json=body).json()["hits"][0]["explain"]
    hit = columns.nth(1).locator(".hit").first
    hit.locator(".why").click()
    expect(hit.locator(".shared td:first-child").first).to_have_text(own["sparse"][0]["token"])
    assert hit.locator(".shared .number").first.inner_text() == f"{100 * own['sparse'][0]['share']:.1f} %"
    expect(hit.locator(".matches tr")).to_have_count(len(own["multi_vector"]))
    hit.locator(".why").click()
    expect(hit.locator(".explanation")).to_be_hidden()


def test_thumbs_write_the_file_that_questions_read(service: httpx.Client, feedback: Path, visit: Visit) -> None:
    feedback.write_bytes(b"")
    page = visit(service)
    columns = searched(page, f"  {QUESTION.replace(' ', '  ')}")
    hits = columns.nth(1).locator(".hit")
    ids = hits.locator(".passage b").all_inner_texts()
    for place, label in ((0, "Helpful"), (1, "Not helpful"), (0, "Not helpful"), (0, "Helpful")):
        thumb = hits.nth(place).get_by_role("button", name=label, exact=True)
        thumb.click()
        expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(hits.nth(0).locator("[aria-pressed=true]")).to_have_count(1)
    lines = [json.loads(line) for line in feedback.read_text(encoding="utf-8").splitlines()]
    assert [(line["passage_id"], line["helpful"]) for line in lines] == [
        (ids[0], True), (ids[1], False), (ids[0], False), (ids[0], True),
    ]  # fmt: skip
    assert {(line["query"], line["index"]) for line in lines} == {(QUESTION, "tuned")}
    read = own_questions(feedback, [], PASSAGES, {passage.doc_id: "train" for passage in PASSAGES})
    [query] = read.splits["train"].queries
    assert (query.text, read.splits["train"].qrels[query.query_id]) == (QUESTION, {ids[0]: 1, ids[1]: 0})


def test_chinese(service: httpx.Client, visit: Visit) -> None:
    page = visit(service, locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    expect(page.get_by_role("button", name="搜索", exact=True)).to_be_visible()
    columns = searched(page, "怎样冲洗过滤器？")
    assert columns.nth(0).locator("h3").first.inner_text() == "过滤器"
    columns.nth(1).locator(".why").first.click()
    expect(columns.nth(1).locator("caption").first).to_have_text("共有词元，按其在稀疏得分中的份额")
    page.get_by_role("button", name="English").click()
    expect(columns.nth(1).locator("caption").first).to_have_text("Shared tokens, by their part of the sparse score")
    page.reload()
    expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()  # as chosen


def test_hostile_texts_stay_texts(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    columns = searched(page, "Invoices <b>attack</b>")
    hit = columns.nth(0).locator(".hit", has_text="attack.md")
    seen = ATTACK.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert hit.locator(".text").inner_text() == f"Invoices {seen}"
    assert hit.locator("h3").inner_text() == f"Attack {seen}"
    assert hit.locator(".metadata").all_inner_texts() == [f"{seen} {LINK}", f"url {LINK}"]
    assert page.locator("#columns").locator("script, img, a, iframe, b b").count() == 0
    assert page.evaluate("window.taken") is None


def test_what_is_served(service: httpx.Client, visit: Visit) -> None:
    page = visit(service)
    page.locator("#about summary").click()
    told = page.locator("#about").inner_text()
    for info in (service.get("/info").json()["model"], *service.get("/info").json()["indexes"]):
        assert info["fingerprint"][:16] in told
    assert "dense, sparse, bm25, multi_vector" in told
    assert "files" in told
    assert "cosine" in told
    phone = visit(service, viewport={"width": 390, "height": 800})
    searched(phone)
    phone.locator("#about summary").click()
    assert phone.evaluate("document.documentElement.scrollWidth") == 390  # nothing is wider than the screen


def test_only_the_page_itself_may_run(service: httpx.Client) -> None:
    found = service.get("/")
    policy = found.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"(?:src|href)=\"(?!data:,)", found.text)


def test_keys_and_a_service_in_trouble(minilm: DenseEncoder, tmp_path: Path, visit: Visit) -> None:
    build_index(tmp_path / "one", PASSAGES, minilm, "minilm")
    gated = Gated(minilm)
    served = Served("minilm", minilm, ("dense",), indexes={"one": open_index(tmp_path / "one", gated)})
    with running(served, ["sesame-1"], queue_requests=1, feedback="/dev/full") as client:
        client.headers["Authorization"] = "Bearer sesame-1"
        page = visit(client)
        alert, column = page.locator("#alert"), page.locator("#columns section")
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#search")).to_be_hidden()
        for wrong, told in (("se same", "without blanks"), ("schlüssel", "plain letters"), ("sesame-2", "not know")):
            page.fill("#key", wrong)
            page.keyboard.press("Enter")
            expect(alert).to_contain_text(told)
        page.fill("#key", "sesame-1")
        page.keyboard.press("Enter")
        searched(page)
        expect(alert).to_have_text("")
        expect(column.locator(".hit")).to_have_count(5)
        assert page.url == f"{client.base_url}/"
        column.get_by_role("button", name="Helpful", exact=True).first.click()
        expect(column.locator(".hit").first.get_by_role("status")).to_have_text(
            "The service cannot do this now (the feedback could not be written; the service's log says why). "
            "Try again in a moment."
        )

        gated.gate.clear()
        gated.turns.clear()
        asked = {"target": client.post, "args": ("/search",), "kwargs": {"json": {"query": "pump"}}}
        others = [threading.Thread(**asked), threading.Thread(**asked)]
        others[0].start()
        soon(lambda: gated.turns)
        others[1].start()
        soon(lambda: waiting(client) == 1)
        searched(page, "too much")
        expect(column.get_by_role("alert")).to_have_text(re.compile(r"^Too much is waiting .* Try again in \d+ s\.$"))
        gated.gate.set()
        for other in others:
            other.join()
        searched(page)
        expect(column.locator(".hit")).to_have_count(5)

        gated.gate.clear()
        gated.turns.clear()
        page.fill("#query", "overtaken")
        page.keyboard.press("Enter")
        soon(lambda: gated.turns)
        expect(page.locator("#status")).to_have_text("Searching…")
        page.fill("#query", "rinse the filter")
        page.keyboard.press("Enter")
        gated.gate.set()
        expect(column.locator("h3").first).to_have_text("Filter")
        expect(page.locator("#status")).to_have_text("")

        page.reload()  # the key is known to this tab still
        expect(page.locator("#search")).to_be_visible()
        page.get_by_role("button", name="Forget the key").click()
        expect(page.locator("#key")).to_be_visible()
        page.fill("#key", "sesame-1")
        page.keyboard.press("Enter")
        expect(page.locator("#search")).to_be_visible()
    searched(page)
    expect(column.get_by_role("alert")).to_have_text("The service cannot be reached. Is it running?")
    assert page.locator("#status").inner_text() == ""
