"""The web page in a real browser, against a real service that asks for a key."""

import csv
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.app.test_keys import entry
from tests.conftest import ROOT, encode, photo
from tests.e2e.conftest import Service, running

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="chromium is not installed")

KEY = "a-key"
AXE = Path(str(files("axe_playwright_python"))) / "axe.min.js"
REFUSED = "Failed to load resource: the server responded with a status of "
"""What Chromium itself writes on its console for every answer that is not a success."""
SECONDS = 60
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("page") / "log"
    with running(log, api_keys=entry("ann", KEY), cache_crops=65536) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def half_blurred() -> bytes:
    """A photo that is sharp on the left alone."""
    sharp = Image.open(ROOT / "examples" / "astronaut.jpg")
    picture = sharp.filter(ImageFilter.GaussianBlur(8))
    picture.paste(sharp.crop((0, 0, 256, 512)), (0, 0))
    return encode(picture, quality=92)


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Visit]:
    """Opens the page; at the end nothing may have gone wrong in it, and nothing gone elsewhere."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []
    elsewhere: list[str] = []

    def visited(*, key: str = KEY, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        context.on("request", lambda request: None if _is_near(request.url) else elsewhere.append(request.url))
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on("console", lambda message: _keep(message.type, message.text))
        if key:
            # Not on the blank page that every tab begins with.
            keep = f"sessionStorage.setItem('smart-iqa-key', '{key}')"
            context.add_init_script(f"if (location.protocol === 'http:') {keep}")
        page = context.new_page()
        page.goto(service.url)
        return page

    def _is_near(url: str) -> bool:
        return url.startswith((f"{service.url}/", f"blob:{service.url}/"))

    def _keep(kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith(REFUSED):
            wrong.append(text)

    yield visited
    for page in (page for context in contexts for page in context.pages):
        assert not re.search(r"\b(null|undefined|NaN)\b", page.locator("body").inner_text())
    for context in contexts:
        context.close()
    assert wrong == []
    assert elsewhere == []


def file(name: str, data: bytes, kind: str = "image/jpeg") -> Any:
    return {"name": name, "mimeType": kind, "buffer": data}


def example(name: str) -> Any:
    return file(f"{name}.jpg", (ROOT / "examples" / f"{name}.jpg").read_bytes())


def choose(page: Page, *chosen: Any) -> None:
    page.set_input_files("#files", list(chosen))


def small(count: int) -> list[Any]:
    return [file(f"photo {number}.jpg", encode(photo(240, 224, number))) for number in range(count)]


def large() -> bytes:
    """A photo that is also looked at closely."""
    sheet = Image.new("RGB", (1600, 1200))
    tile = Image.open(ROOT / "examples" / "rocket.jpg").resize((400, 400))
    for place in range(12):
        sheet.paste(tile, (place % 4 * 400, place // 4 * 400))
    return encode(sheet, quality=92)


def step_to(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus, and shows that it has."""
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.locator("*:focus")
        assert focused.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
        if focused.evaluate("(one, selector) => one.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be stepped to")


def all_done(page: Page) -> None:
    expect(page.locator("tbody tr")).not_to_have_count(0)
    expect(page.locator("tr.waiting, tr.scoring")).to_have_count(0)


def column(page: Page, name: str) -> list[str]:
    return [text.strip() for text in page.locator(f"tbody {name}").all_inner_texts()]


def sees(page: Page, words: str | re.Pattern[str]) -> None:
    expect(page.get_by_text(words).locator("visible=true").first).to_be_visible()


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    found = page.evaluate("axe.run()")
    assert found["passes"]
    return [
        f"{violation['id']}: {node['html']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_a_photo_is_told_all_about(visit: Visit, service: Service, half_blurred: bytes) -> None:
    page = visit()
    choose(page, file("half.jpg", half_blurred))
    expect(page.locator(".mapcontrols")).to_be_visible()
    expected = service.post(half_blurred, "/attention?detail=map", headers={"X-API-Key": KEY}).json()
    assert expected["map"]["scores"]
    sees(page, f"{expected['score']:.2f} of 100")
    grade, rounded = expected["grade"], round(expected["score"])
    low, high = (round(expected["interval"][end]) for end in ("low", "high"))
    expect(page.get_by_role("img", name=f"Score {rounded} of 100, {grade}, likely {low} to {high}")).to_be_visible()
    sees(page, f"For 90 of 100 such photos people's mean opinion lies between {low} and {high}.")
    sees(page, f"It scores higher than {round(expected['percentile'])} of 100 photos")
    # Its left half is sharp, which reaches to the middle.
    told = re.compile(r"^Weakest .*right \(\d+\), strongest (?!.*right).* \(\d+\)\.$")
    expect(page.get_by_text(told)).to_be_visible()
    shares = [f"{round(100 * weight)} %" for weight in expected["stage_weights"]]
    assert page.locator(".stages .share").all_inner_texts() == shares
    sees(page, re.compile(r"there and back"))
    expect(page.get_by_role("status")).to_have_text(f"half.jpg: {rounded} of 100, {grade}.")


def test_the_map_is_drawn_where_the_photo_is(visit: Visit, half_blurred: bytes) -> None:
    page = visit()
    choose(page, file("half.jpg", half_blurred))
    slider = page.get_by_role("slider", name="Quality map")
    slider.fill("100")
    assert page.locator(".map").evaluate("map => getComputedStyle(map).opacity") == "1"
    row = "map => [...map.getContext('2d').getImageData(0, map.height / 2, map.width, 1).data]"
    values = page.locator(".map").evaluate(row)
    left, right = values[: len(values) // 4], values[-len(values) // 4 :]
    assert sum(left[2::4]) > sum(left[::4])
    assert sum(right[2::4]) < sum(right[::4])
    places = [page.locator(name).bounding_box() for name in (".frame > img", ".map")]
    assert places[0] == places[1]


def test_close_looks_at_a_large_photo_are_shown_on_hover(visit: Visit, service: Service) -> None:
    page = visit()
    data = large()
    choose(page, file("large.jpg", data))
    scored = service.post(data, "/score?detail=crops", headers={"X-API-Key": KEY}).json()["crop_scores"]
    names = ("Whole", "Crop 1", "Crop 2")
    chips = [f"{name} {crop['score']:.1f}" for name, crop in zip(names, scored, strict=True)]
    expect(page.locator(".chip")).to_have_count(3)
    assert page.locator(".chip").all_inner_texts() == chips
    chip = page.get_by_role("button", name=re.compile("^Crop 2 "))
    chip.hover()
    expect(page.locator(".boxes .edge").last).to_be_visible()
    expect(page.locator(".readout")).to_have_text(f"crop 2: {chip.inner_text().split()[-1]}")
    page.locator(".frame").hover(position={"x": 10, "y": 10})
    expect(page.locator(".readout")).to_have_text(re.compile(r"^here: \d+ · (whole|crop \d): [\d.]+$"))
    page.get_by_role("heading", name="large.jpg").hover()
    expect(page.locator(".boxes .edge")).to_have_count(0)
    step_to(page, ".chip")
    expect(page.locator(".readout")).to_have_text(f"whole: {chips[0].split()[-1]}")


def test_photos_are_dropped_and_pasted(visit: Visit) -> None:
    page = visit()
    make = """bytes => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], "image.png", {type: "image/png"}));
        return transfer;
    }"""
    transfer = page.evaluate_handle(make, list(encode(photo(240, 224), "PNG")))
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    expect(page.get_by_role("heading", name="image.png")).to_be_visible()
    page.evaluate("data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", transfer)
    expect(page.get_by_role("heading", name="pasted 1.png")).to_be_visible()
    all_done(page)
    scores = column(page, ".score")
    assert scores[0] == scores[1]
    assert float(scores[0].split()[0]) > 0


def test_warnings_are_told_in_words(visit: Visit) -> None:
    page = visit()
    choose(page, file("print.jpg", encode(photo(300, 90).convert("CMYK"))))
    sees(page, "Take this score with care")
    sees(page, "The picture is very long for its width, which makes its score less sure.")
    sees(page, "Colours for print (CMYK) were converted to colours for screens.")


def test_broken_pictures_are_told_one_by_one(visit: Visit) -> None:
    page = visit()
    data = example("coffee")["buffer"]
    text = file("notes.txt", b"no picture", "text/plain")
    unknown = file("photo.heic", b"no picture", "image/heic")
    choose(page, file("cut.jpg", data[:20_000]), text, unknown, file("whole.jpg", data))
    all_done(page)
    expect(page.locator("tr.failed")).to_have_count(3)
    told = column(page, ".more")
    assert told[0].startswith("The file is cut off")
    assert told[1].startswith("This is not a picture that can be read here.")
    assert told[2].startswith("Not a picture of an accepted format")
    assert told[3] == ""
    expect(page.get_by_role("status")).to_have_text("1 photo scored, 3 could not be.")
    expect(page.get_by_role("heading", name="cut.jpg")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_many_photos_are_sorted_and_saved(visit: Visit) -> None:
    page = visit()
    chosen = [*small(5), file("=1+1.jpg", encode(photo(240, 224, 9))), file("broken, or so.jpg", b"\xff\xd8\xff\xe0")]
    choose(page, *chosen)
    all_done(page)
    expect(page.locator("tbody canvas")).to_have_count(6)
    names = [one["name"] for one in chosen]
    assert column(page, "button.name") == names
    by_score = page.get_by_role("columnheader", name="Score")
    by_score.get_by_role("button").click()
    expect(by_score).to_have_attribute("aria-sort", "descending")
    *best_first, none = [re.findall(r"^[\d.]+", text) for text in column(page, ".score")]
    scores = [float(found[0]) for found in best_first]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert none == []
    by_score.get_by_role("button").click()
    expect(by_score).to_have_attribute("aria-sort", "ascending")
    assert [float(re.findall(r"^[\d.]+", text)[0]) for text in column(page, ".score")[:-1]] == scores[::-1]
    assert column(page, "button.name")[-1] == names[-1]
    page.get_by_role("button", name="Name").click()
    assert column(page, "button.name") == sorted(names)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "scores.csv"
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert [row["file"] for row in rows] == [name.replace("=1", "'=1") for name in sorted(names)]
    by_name = {row["file"]: row for row in rows}
    assert by_name["broken, or so.jpg"]["error"] in ("image_truncated", "image_undecodable")
    assert by_name["broken, or so.jpg"]["score"] == ""
    assert sorted(round(float(row["score"]), 1) for row in rows if row["score"]) == sorted(scores)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("tbody tr")).to_have_count(0)
    expect(page.get_by_role("heading", name="How good is this photo?")).to_be_visible()


def test_no_more_than_three_are_on_their_way(visit: Visit) -> None:
    page = visit()
    expect(page.locator("#models option")).to_have_count(1)
    held: list[Route] = []
    page.route("**/attention?*", lambda route: held.append(route))
    choose(page, *small(5))
    expect(page.locator("tr.scoring")).to_have_count(3)
    page.wait_for_timeout(100)
    assert len(held) == 3
    assert all(route.request.headers["x-priority"] == "bulk" for route in held)
    sees(page, "0 of 5 done")
    page.unroute("**/attention?*")
    all_done(page)
    assert len(column(page, ".dot")) == 5


def test_two_photos_side_by_side(visit: Visit) -> None:
    page = visit()
    choose(page, example("astronaut"), *small(1), example("rocket"))
    all_done(page)
    compare = page.get_by_role("button", name="Compare two")
    expect(compare).to_be_disabled()
    sees(page, "Tick two to compare them.")
    page.get_by_role("checkbox", name="Compare astronaut.jpg").check()
    page.get_by_role("checkbox", name="Compare photo 0.jpg").check()
    # The third takes the place of the first.
    page.get_by_role("checkbox", name="Compare rocket.jpg").check()
    expect(page.get_by_role("checkbox", name="Compare astronaut.jpg")).not_to_be_checked()
    compare.click()
    expect(page.get_by_role("heading", name="Side by side")).to_be_focused()
    sees(
        page,
        re.compile(
            r"^People probably prefer rocket\.jpg: the probability is \d\d %\. They differ in this: motion blur, "
        ),
    )
    assert page.locator(".side h3").all_inner_texts() == ["photo 0.jpg", "rocket.jpg"]
    images = [image.bounding_box() for image in page.locator(".side img").all()]
    assert images[0]
    assert images[1]
    assert images[0]["x"] + images[0]["width"] <= images[1]["x"]
    expect(page.locator(".side .map")).to_have_count(2)
    page.get_by_role("slider", name="Quality map").fill("0")
    assert page.locator(".side .map").evaluate_all("maps => maps.map(map => map.style.opacity)") == ["0", "0"]
    page.get_by_role("button", name="Close comparison").click()
    expect(page.get_by_role("heading", name="photo 0.jpg")).to_be_focused()


def shots() -> list[Any]:
    """Three nearly equal photos, of which the second is sharp."""
    astronaut = Image.open(ROOT / "examples" / "astronaut.jpg")
    made = []
    for at, sigma in enumerate((4, 0, 2)):
        shot = astronaut.crop((at, at, 480 + at, 480 + at)).filter(ImageFilter.GaussianBlur(sigma))
        made.append(file(f"shot {at}.jpg", encode(shot, quality=92)))
    return made


def test_the_best_of_nearly_equal_photos(visit: Visit) -> None:
    page = visit()
    choose(page, *shots(), example("rocket"))
    all_done(page)
    page.get_by_role("button", name="Pick the best").click()
    expect(page.get_by_role("heading", name="The best of each")).to_be_focused()
    group = page.get_by_role("group", name="3 nearly equal photos")
    expect(group.get_by_role("radio")).to_have_count(3)
    expect(page.locator(".picks img")).to_have_count(3)
    best = group.get_by_role("radio", name=re.compile("^shot 1.jpg"))
    expect(best).to_be_checked()
    sees(page, re.compile("Picked because .*nobody looked whether eyes are open"))
    expect(group.get_by_text(re.compile("This one has more: .*focus", re.IGNORECASE))).to_have_count(2)
    # The keyboard overrules, and the file tells what was chosen.
    best.focus()
    page.keyboard.press("ArrowDown")
    expect(best).not_to_be_checked()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig")))
    picked = {row["file"]: row["picked"] for row in rows}
    assert sorted(picked.values()) == ["false", "false", "true", "true"]
    assert (picked["shot 1.jpg"], picked["rocket.jpg"]) == ("false", "true")
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".picks")).to_have_count(0)


def test_a_policy_decides_and_says_what_would_have_to_change(visit: Visit) -> None:
    page = visit()
    blurred = Image.open(ROOT / "examples" / "astronaut.jpg").filter(ImageFilter.GaussianBlur(5))
    page.select_option("#policy", "marketplace")
    choose(page, file("blurred.jpg", encode(blurred, quality=92)))
    banner = page.locator(".decision")
    expect(banner).to_have_class(re.compile("reject"))
    expect(banner).to_contain_text("Rejected by marketplace")
    expect(banner).to_contain_text("Tap on the thing that you sell")
    expect(banner).to_contain_text(re.compile(r"Defocus severity is 0\.\d+; it should be below 0\.6\."))
    choose(page, example("astronaut"))
    all_done(page)
    expect(page.locator(".decision.accept")).to_contain_text("Accepted by marketplace")
    assert sorted(column(page, "td.notes")) == ["Accepted", "Rejected"]
    with page.expect_download() as download:
        page.click("#csv")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert {row["file"]: row["decision"] for row in rows} == {"blurred.jpg": "reject", "astronaut.jpg": "accept"}
    page.select_option("#policy", "")
    expect(banner).to_have_count(0)


def test_the_key_is_asked_for_and_kept_in_this_tab_only(visit: Visit) -> None:
    page = visit(key="")
    choose(page, *small(1))
    field = page.get_by_label("API key")
    expect(field).to_be_visible()
    sees(page, "This service asks for a key.")
    field.fill("another key")
    page.get_by_role("button", name="Use this key").click()
    sees(page, "This key is not known to the service.")
    field.fill(KEY)
    field.press("Enter")
    expect(page.locator(".dial")).to_be_visible()
    expect(field).to_be_hidden()
    assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]
    page.reload()
    choose(page, *small(1))
    expect(page.locator(".dial")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_label("API key")).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    page.reload()
    expect(field).to_be_visible()


@contextmanager
def first_answers(page: Page, url: str, **answer: Any) -> Iterator[None]:
    """The service's first answer to be another one than it would give; afterwards it is asked itself."""
    answered: list[Route] = []

    def handle(route: Route) -> None:
        answered.append(route)
        if len(answered) == 1:
            route.fulfill(**answer)
        else:
            route.continue_()

    page.route(url, handle)
    yield
    page.unroute(url)
    assert len(answered) > 1


def test_a_busy_service_is_asked_again(visit: Visit) -> None:
    page = visit()
    busy = {"code": "queue_full", "title": "The service is at capacity"}
    with first_answers(page, "**/attention?*", status=429, headers={"Retry-After": "1"}, json=busy):
        choose(page, *small(1))
        sees(page, "The service is busy. Trying again in 1 s.")
        expect(page.locator(".dial")).to_be_visible()


def test_a_service_that_is_not_ready_is_waited_for(visit: Visit) -> None:
    page = visit()
    with first_answers(page, "**/models", json={"models": []}):
        page.reload()
        choose(page, *small(1))
        expect(page.get_by_role("status")).to_have_text("The service is still loading its model. Trying again in 2 s.")
        sees(page, "Waiting for the service…")
        expect(page.locator(".dial")).to_be_visible()


def test_models_without_stages_and_maps(visit: Visit) -> None:
    page = visit()

    def plain(route: Route) -> None:
        found = route.fetch().json()
        found["models"][0]["stage_attention"] = False
        route.fulfill(json=found)

    page.route("**/models", plain)
    refusal = {"code": "map_not_supported", "title": "The model sees whole pictures only"}
    page.route("**/score?*detail=map", lambda route: route.fulfill(status=409, json=refusal))
    page.reload()
    choose(page, file("large.jpg", large()))
    expect(page.locator(".dial")).to_be_visible()
    sees(page, "The model sees whole pictures only: it has no quality map.")
    expect(page.get_by_role("heading", name="What the model looked at")).to_have_count(0)
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.locator(".chip").first).to_be_visible()


def test_by_keyboard_alone(visit: Visit, half_blurred: bytes) -> None:
    page = visit()
    # Chromium is told to hand choosers over before one may open, not at the same time.
    page.on("filechooser", lambda _: None)
    expect(page.get_by_role("button", name="Forget key")).to_be_visible()

    step_to(page, "#choose")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([file("half.jpg", half_blurred), *small(1)])
    all_done(page)
    expect(page.locator(".mapcontrols")).to_be_visible()
    step_to(page, "[data-order=score]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="Score")).to_have_attribute("aria-sort", "descending")
    step_to(page, "tbody input")
    page.keyboard.press("Space")
    step_to(page, "button.name")
    name = page.locator("*:focus").inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=name)).to_be_focused()
    expect(page.locator(".mapcontrols")).to_be_visible()
    step_to(page, "#strength")
    before = page.locator(".map").evaluate("map => Number(map.style.opacity)")
    page.keyboard.press("ArrowRight")
    assert page.locator(".map").evaluate("map => Number(map.style.opacity)") > before


def test_rows_that_move_keep_the_focus(visit: Visit) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/attention?*", lambda route: held.append(route))
    choose(page, *small(2))
    page.get_by_role("button", name="Score").click()
    last = page.get_by_role("button", name="photo 1.jpg", exact=True)
    last.focus()
    # It alone is scored, and moves above the other.
    expect(page.locator("tr.scoring")).to_have_count(2)
    for route in held:
        # All that the page sends of a photo is its bytes.
        if route.request.post_data_buffer == small(2)[1]["buffer"]:
            route.continue_()
    expect(page.locator("tr.done")).to_have_count(1)
    assert column(page, "button.name") == ["photo 1.jpg", "photo 0.jpg"]
    expect(last).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    page.context.add_init_script(path=AXE)
    page.reload()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(ground) > 200) if scheme == "light" else (max(ground) < 60)
    assert serious(page) == []
    # The second has warnings, the third is broken.
    choose(page, example("astronaut"), file("print.jpg", encode(photo(300, 90).convert("CMYK"))), file("b.jpg", b"no"))
    all_done(page)
    expect(page.locator(".mapcontrols")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="b.jpg", exact=True).click()
    expect(page.locator(".verdict.failed")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="print.jpg", exact=True).click()
    expect(page.locator(".caution")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator(".comparison")).to_be_visible()
    assert serious(page) == []
    choose(page, *shots())
    all_done(page)
    page.get_by_role("button", name="Pick the best").click()
    expect(page.get_by_role("heading", name="The best of each")).to_be_focused()
    assert serious(page) == []


def test_a_narrow_screen_needs_no_scrolling_sideways(visit: Visit) -> None:
    page = visit(viewport={"width": 320, "height": 640}, has_touch=True)

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        for name in ("button", "input", "h1", "h2", "img"):
            for one in page.locator(f"main {name}:visible").all():
                box = one.bounding_box()
                assert box
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 320, name

    expect(page.get_by_role("button", name="Take a photo")).to_be_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    fits()
    long_name = f"{'a_very_long_name_without_any_blank' * 3}.jpg"
    choose(page, file(long_name, example("astronaut")["buffer"]), example("rocket"), file("broken.jpg", b"no"))
    all_done(page)
    expect(page.locator(".mapcontrols")).to_be_visible()
    fits()
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator(".comparison")).to_be_visible()
    fits()


def test_nothing_moves_for_who_asks_for_calm(visit: Visit) -> None:
    for motion, name in (("no-preference", "turn"), ("reduce", "none")):
        page = visit(reduced_motion=motion)
        page.route("**/attention?*", lambda _: None)
        choose(page, *small(1))
        spinner = page.locator(".spinner")
        expect(spinner).to_be_visible()
        assert spinner.evaluate("one => getComputedStyle(one).animationName") == name
