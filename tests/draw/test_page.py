"""The page in a real browser, from disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cliquegraph import NetworkSpec, unroll
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.draw.render import Request, render
from tests.networks import EVERY_KEY, SPECS, clique, network, shipped

BROWSER = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
HOW = "no Chromium; on Debian: apt-get install chromium chromium-driver"


def page(spec: NetworkSpec) -> str:
    return render(unroll(spec), Request(), "html").decode()


def embedded(text: str) -> Any:
    start = text.index('<script type="application/json" id="data">')
    begin = text.index(">", start) + 1
    return json.loads(text[begin : text.index("</script>", begin)])


# ---- the file ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_the_page_tells_every_step_kernel_and_feature(name: str) -> None:
    steps = unroll(EVERY_KEY[name])
    found = embedded(page(EVERY_KEY[name]))
    for block, told in zip(steps.blocks, found["blocks"], strict=True):
        rows = [{k: v for k, v in row.items() if k != "numeral"} for row in told["rows"]]
        assert rows == [step.as_row() for step in block.steps]
        assert told["kernels"].keys() == {str(edge) for edge in block.edges}
        assert told["features"].keys() == {"X0", *(str(step.writes) for step in block.steps)}
        for edge, stages in block.edges.items():
            kernel = told["kernels"][str(edge)]
            assert len(kernel["stages"]) == len(set(stages))
            assert len(kernel["uses"]) == len(stages)


def test_the_parameters_of_kernels_are_the_networks() -> None:
    from cliquegraph import lower

    for spec in (clique(4, bottleneck=True), EVERY_KEY["dense"]):
        graph = lower(unroll(spec))
        kernels = [
            tensor.size
            for tensor in graph.tensors
            if str(tensor.slot.section) == "block1"
            and len(tensor.shape) == 4
            and tensor.slot.role in ("w", "conv")
        ]
        told = embedded(page(spec))["blocks"][0]["kernels"]
        assert sum(each["parameters"] for each in told.values()) == sum(kernels)


@pytest.mark.parametrize("name", ["cliquenet_s0", "densenet_k12_t96_bc"])
def test_the_kernels_after_a_bottleneck_are_told(name: str) -> None:
    from cliquegraph import lower

    steps = unroll(shipped(name))
    told = [block["spatial"] for block in embedded(page(shipped(name)))["blocks"]]
    sizes: dict[int, int] = {}
    for tensor in lower(steps).tensors:
        if tensor.slot.role in ("v", "mid_conv"):
            sizes[tensor.slot.section.index] = sizes.get(tensor.slot.section.index, 0) + tensor.size
    assert [sum(each["parameters"] for each in block.values()) for block in told] == [
        sizes[block.index] for block in steps.blocks
    ]
    first = steps.block(1)
    k = first.declared.layer(1).filters
    for layer, kernel in told[0].items():
        assert kernel["shape"].startswith(f"{k}×")
        assert kernel["shape"].endswith("×3×3")
        stages = {step.stage for step in first.steps if step.layer == int(layer)}
        assert len(kernel["stages"]) == len(stages)


def test_without_a_bottleneck_there_is_no_kernel_after_it() -> None:
    assert embedded(page(clique(3)))["blocks"][0]["spatial"] == {}


def test_the_page_names_the_spec_without_its_folder() -> None:
    assert SPECS.is_absolute()
    text = page(shipped("cliquenet_s3"))
    assert embedded(text)["blocks"][0]["line"].startswith("cliquenet_s3.yaml:")
    assert str(SPECS) not in text
    assert str(SPECS.parent) not in text


def test_the_page_is_small_alone_and_the_same_every_time() -> None:
    text = page(shipped("cliquenet_s3"))
    assert len(text.encode()) < 1_500_000
    assert "src=" not in text
    assert "<link" not in text
    assert "@import" not in text
    assert text == page(shipped("cliquenet_s3"))


def test_a_comparison_is_no_page() -> None:
    steps = unroll(clique(2))
    with pytest.raises(UsageError, match="a comparison can't be a page"):
        render(steps, Request(), "html", steps)


@pytest.mark.parametrize(
    ("request_", "start"),
    [
        (Request("steps"), {"view": "steps", "block": 1, "step": 0}),
        (Request("steps", block=2), {"view": "steps", "block": 2, "step": 0}),
        (Request("loop", block=2, stage=2), {"view": "loop", "block": 2, "step": 5}),
        (Request("loop", stage=2), {"view": "loop", "block": 1, "step": 5}),
        (Request("network"), None),
        (Request(), None),
    ],
)
def test_a_page_opens_at_a_view_block_and_stage(request_: Request, start: object) -> None:
    steps = unroll(shipped("quickstart"))
    text = render(steps, request_, "html").decode()
    assert embedded(text).get("start") == start
    block = start["block"] if isinstance(start, dict) else 1
    shown = re.findall(r'<section class="block" id="section(\d)"[^>]*(?<!hidden)>', text)
    assert shown == [str(block)]
    assert (start is None) == (text == render(steps, Request(), "html").decode())


def test_a_page_opens_nowhere_else() -> None:
    steps = unroll(shipped("quickstart"))
    for wrong, message in (
        (Request("spiral"), "--view is loop, steps, network"),
        (Request("network", block=1), "are for the views loop and steps"),
        (Request("steps", block=9), "blocks 1 to 2, not 9"),
        (Request("steps", stage=9), "there is no stage 9"),
    ):
        with pytest.raises(UsageError, match=message):
            render(steps, wrong, "html")


# ---- the browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="no Selenium")
    if not (BROWSER and DRIVER):
        pytest.skip(HOW)
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--window-size=1400,1400"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Callable[[NetworkSpec], Any]:
    """Open the page of a network."""
    file = tmp_path / "page.html"

    from selenium.webdriver.support.wait import WebDriverWait

    def opened(spec: NetworkSpec) -> Any:
        file.write_text(page(spec), encoding="utf-8")
        browser.get(file.as_uri())
        ready = "return location.href === arguments[0] && document.readyState === 'complete'"
        # On a busy machine get() has returned before the script at the page's end had run.
        WebDriverWait(browser, 60).until(lambda _: browser.execute_script(ready, file.as_uri()))
        return browser

    return opened


@pytest.fixture
def opened(show: Callable[[NetworkSpec], Any]) -> Any:
    return show(clique(4))


@pytest.fixture(params=[(1400, 700), (390, 844)], ids=["desktop", "phone"])
def screen(browser: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    width, height = request.param
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def dark(browser: Any) -> Iterator[None]:
    for value in ("dark", ""):
        features = [{"name": "prefers-color-scheme", "value": value}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if value:
            yield


def lit(driver: Any) -> set[str]:
    found = driver.find_elements("css selector", "#section1 g.node.lit")
    return {each.get_attribute("id") for each in found}


def point_at(driver: Any, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    item = driver.find_element("id", key)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", item)
    ActionChains(driver).move_to_element(item).perform()


def focus(driver: Any, key: str) -> None:
    driver.execute_script("document.getElementById(arguments[0]).focus()", key)


def take_step(driver: Any, number: int) -> None:
    slider = driver.find_element("id", "step1")
    driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        slider,
        number,
    )


def test_it_opens_where_render_was_told(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    steps = unroll(shipped("quickstart"))
    file.write_bytes(render(steps, Request("steps", block=2, stage=2), "html"))
    browser.get(file.as_uri())
    assert browser.find_element("id", "section2").is_displayed()
    assert not browser.find_element("id", "section1").is_displayed()
    output = browser.find_element("css selector", "#section2 output")
    assert output.text == "5 of 8, stage II"
    seen = "const box = arguments[0].getBoundingClientRect(); return [box.top, box.bottom]"
    top, bottom = browser.execute_script(
        seen, browser.find_element("css selector", "#section2 .picture.steps")
    )
    assert 0 <= top < bottom <= browser.execute_script("return innerHeight")


def test_the_slider_plays_the_table(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    block = unroll(clique(4)).block(1)
    slider = opened.find_element("id", "step1")
    for step in block.steps:
        slider.send_keys(Keys.ARROW_RIGHT)
        said = opened.find_element("css selector", "#section1 .now").text
        assert f"{{{', '.join(map(str, step.reads))}}}" in said
        assert f"{{{', '.join(map(str, step.weights))}}} → {step.writes}" in said
        marked = opened.find_elements("css selector", "#section1 g.node.now-read")
        names = {each.get_attribute("data-kernel") for each in marked}
        assert names == {str(edge) for edge in step.weights}
        written = opened.find_elements("css selector", "#section1 g.node.now-write")
        assert {f"b1_x{step.layer}", f"b1_{step.writes}"} == {
            each.get_attribute("id") for each in written
        }
    slider.send_keys(Keys.HOME)
    assert not opened.find_elements("css selector", "#section1 .later, #section1 .idle")


def test_the_slider_marks_the_columns_of_the_slab(opened: Any) -> None:
    def marked(name: str) -> set[str]:
        found = opened.find_elements("css selector", f"#section1 .strip .{name}")
        return {each.get_attribute("data-feature") for each in found}

    written = ["X0"]
    for number, step in enumerate(unroll(clique(4)).block(1).steps, 1):
        take_step(opened, number)
        written.append(str(step.writes))
        assert marked("now-read") == {*map(str, step.reads)}
        assert marked("now-write") == {str(step.writes)}
        strip = opened.find_elements("css selector", "#section1 .strip span")
        assert {e.get_attribute("data-feature") for e in strip} - marked("later") == {*written}
        told = opened.find_element("css selector", "#section1 .slab .now").text
        assert told.startswith(f"{step.writes} reads ")
    take_step(opened, 0)
    assert not marked("now-read") | marked("now-write") | marked("later")


def test_pointing_at_a_kernel_lights_up_all_its_uses(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    for edge in block.edges:
        users = [step for step in block.steps if edge in step.weights]
        boxes = {f"b1_{step.writes}_{edge}" for step in users}
        point_at(opened, sorted(boxes)[0])
        ends = {f"b1_x{edge.source}", f"b1_x{edge.target}"}
        assert lit(opened) == boxes | {f"b1_{step.writes}" for step in users} | ends
        told = opened.find_element("css selector", "#section1 .tell").text
        assert f"Kernel {edge}, from X{edge.source} to X{edge.target}" in told
        assert ", ".join(str(step.writes) for step in users) in told


def test_pointing_at_a_feature_lights_up_its_readers_and_its_writer(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    for step in block.steps:
        point_at(opened, f"b1_{step.writes}")
        readers = [other for other in block.steps if step.writes in other.reads]
        told = opened.find_element("css selector", "#section1 .tell").text
        assert f"Feature {step.writes}" in told
        assert ", ".join(map(str, step.reads)) in told
        found = lit(opened)
        assert {f"b1_{other.writes}" for other in readers} <= found
        assert {f"b1_{step.writes}_{edge}" for edge in step.weights} <= found


def test_keys_do_what_the_pointer_does(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    item = opened.find_element("id", "b1_X2@2_W1_2")
    focus(opened, "b1_X2@2_W1_2")
    assert "b1_X2@1_W1_2" in lit(opened)
    item.send_keys(Keys.ENTER)
    point_at(opened, "b1_X4@1")
    assert "b1_X2@1_W1_2" in lit(opened)  # kept
    opened.find_element("css selector", "body").send_keys(Keys.ESCAPE)
    assert not lit(opened)
    picture = opened.find_element("css selector", "#section1 .picture")
    svg = picture.find_element("css selector", "svg")
    before = svg.rect["width"]
    picture.send_keys("+")
    assert svg.rect["width"] > before
    picture.send_keys("0")
    assert svg.rect["width"] == before


def test_blocks_are_chosen(show: Callable[[NetworkSpec], Any]) -> None:
    browser = show(EVERY_KEY["mixed"])
    browser.find_element("css selector", 'button.choose[data-block="2"]').click()
    assert not browser.find_element("id", "section1").is_displayed()
    assert browser.find_element("id", "section2").is_displayed()


@pytest.mark.parametrize("name", ["cliquenet_s3", "densenet_k12_t36"])
def test_nothing_fails_and_nothing_leaves_the_page(browser: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(shipped(name)), encoding="utf-8")
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(file.as_uri())
    for button in browser.find_elements("css selector", "button.choose"):
        button.click()
    assert browser.get_log("browser") == []
    sent = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    asked = {
        each["params"]["request"]["url"]
        for each in sent
        if each["method"] == "Network.requestWillBeSent"
    }
    assert asked == {file.as_uri()}


def test_buttons_of_size_name_their_picture(opened: Any) -> None:
    groups = opened.find_elements("css selector", ".zoom[role=group]")
    names = [group.accessible_name for group in groups]
    assert names == [f"Size of the {x}" for x in ("network", "loop of block 1", "steps of block 1")]
    buttons = opened.find_elements("css selector", ".zoom button")
    assert len({each.accessible_name for each in buttons}) == 9


def test_a_part_of_the_network_tells_its_figures(opened: Any) -> None:
    opened.find_element("id", "classifier").click()
    told = opened.find_element("id", "part").text
    assert told.startswith("classifier: ")
    assert "parameters; " in told


def test_every_control_has_a_name(opened: Any) -> None:
    for control in opened.find_elements("css selector", "button, input, [role=button]"):
        assert control.accessible_name, control.get_attribute("outerHTML")[:200]


@pytest.mark.parametrize("screen", [(390, 844)], indirect=True)
def test_a_phone_shows_it_without_scrolling_sideways(
    show: Callable[[NetworkSpec], Any], screen: None
) -> None:
    opened = show(shipped("cliquenet_k64_t15"))
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    for picture in ("network", "steps"):
        assert letters(opened, picture) >= 8


# ---- pictures as large as they can be read -----------------------------------------------


def letters(driver: Any, picture: str) -> float:
    """The height of the smallest words of a picture, in pixels of the screen."""
    words = "#section1 .steps text" if picture == "steps" else f".{picture} text"
    heights = "Array.from(document.querySelectorAll(arguments[0]), t => t.getBoundingClientRect())"
    heights += ".map(r => r.height)"
    found: float = driver.execute_script(f"return Math.min(...{heights})", words)
    return found


def box(driver: Any, css: str) -> dict[str, float]:
    """What of an element is on the screen, what there is to scroll, and how far it is."""
    found: dict[str, float] = driver.execute_script(
        "const e = document.querySelector(arguments[0]), r = e.getBoundingClientRect();"
        "return {x: r.x, y: r.y, right: r.right, bottom: r.bottom, width: r.width,"
        " height: r.height, clientWidth: e.clientWidth, scrollWidth: e.scrollWidth,"
        " scrollHeight: e.scrollHeight, left: e.scrollLeft, top: e.scrollTop}",
        css,
    )
    return found


def test_large_steps_begin_at_their_beginning_and_can_be_read(
    show: Callable[[NetworkSpec], Any],
) -> None:
    opened = show(clique(24))
    picture = box(opened, "#section1 .steps")
    screen = opened.execute_script("return innerHeight")
    assert picture["height"] <= 0.75 * screen + 1
    assert picture["scrollWidth"] > picture["clientWidth"]
    assert picture["scrollHeight"] > picture["height"]
    first = box(opened, "[id='b1_X0']")
    assert picture["x"] <= first["x"]
    assert first["right"] < picture["right"]
    assert picture["y"] <= first["y"] < picture["y"] + 150  # below its stage and number
    assert letters(opened, "steps") >= 8


def test_the_whole_picture_is_shown_again(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(clique(24))
    whole = opened.find_elements(
        "css selector", "#section1 .unrolled [aria-label^='Whole picture']"
    )
    opened.execute_script("document.querySelector('#section1 .steps').scrollTo(400, 300)")
    opened.execute_script("arguments[0].click()", whole[0])
    picture, svg = box(opened, "#section1 .steps"), box(opened, "#section1 .steps svg")
    assert (picture["left"], picture["top"]) == (0, 0)
    assert picture["scrollWidth"] <= picture["clientWidth"]
    assert picture["x"] <= svg["x"] < svg["right"] <= picture["right"]
    assert picture["y"] <= svg["y"] < svg["bottom"] <= picture["bottom"]
    last = box(opened, "[id='b1_X24@2']")
    assert svg["x"] < last["x"] < last["right"] < svg["right"]
    assert svg["bottom"] - svg["y"] > 0.9 * svg["height"]


def test_zooming_keeps_the_middle(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(clique(24))
    opened.execute_script("document.querySelector('#section1 .steps').scrollTo(400, 300)")
    before, old = box(opened, "#section1 .steps"), box(opened, "#section1 .steps svg")
    opened.execute_script("document.querySelector('#section1 .unrolled .zoom button').click()")
    after, new = box(opened, "#section1 .steps"), box(opened, "#section1 .steps svg")
    for middle, start, size in (("clientWidth", "x", "width"), ("height", "y", "height")):
        places = [
            (picture[start] + picture[middle] / 2 - svg[start]) / svg[size]
            for picture, svg in ((before, old), (after, new))
        ]
        assert abs(places[0] - places[1]) < 0.01
    assert new["width"] == pytest.approx(1.25 * old["width"])


def test_a_picture_is_dragged_and_what_is_kept_stays(show: Callable[[NetworkSpec], Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened = show(clique(24))
    opened.find_element("id", "b1_X3@1").click()
    beside = opened.find_element("id", "b1_word_step_X5@1")
    ActionChains(opened).drag_and_drop_by_offset(beside, -90, 0).perform()
    assert box(opened, "#section1 .steps")["left"] == pytest.approx(90, abs=2)
    assert "b1_X3@1" in lit(opened)


def test_the_network_is_as_wide_as_the_page(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(shipped("cliquenet_s3"))
    picture, svg = box(opened, ".network"), box(opened, ".network svg")
    assert picture["scrollWidth"] <= picture["clientWidth"]
    assert svg["width"] > 0.95 * picture["width"]


# ---- nothing jumps under the pointer -----------------------------------------------------


def test_nothing_moves_as_one_points_and_plays(
    show: Callable[[NetworkSpec], Any], screen: None
) -> None:
    opened = show(shipped("cliquenet_s3"))
    heights = (
        "return Array.from(document.querySelectorAll("
        "'#part, #section1 .now, #section1 .tell, #section1 .steps'),"
        " e => [e.offsetTop, e.offsetHeight, document.documentElement.scrollHeight])"
    )
    opened.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    before = opened.execute_script(heights)
    for key in ("b1_X6@2_W5_6", "b1_X3@1", "b1_x2"):
        focus(opened, key)
        opened.execute_script("scrollTo(0, 0)")
        assert opened.execute_script(heights) == before
    for number in (0, 1, 12):
        take_step(opened, number)
        assert opened.execute_script(heights) == before
    focus(opened, "stem")
    opened.switch_to.active_element.send_keys("\n")
    assert opened.execute_script(heights) == before


def test_what_there_is_to_say_scrolls_in_its_box(
    show: Callable[[NetworkSpec], Any], screen: None
) -> None:
    opened = show(network({"kind": "dense", "layers": 60, "filters": 2}))
    before = box(opened, "#section1 .tell")["height"]
    focus(opened, "b1_x30")
    assert box(opened, "#section1 .tell")["height"] == before
    said = box(opened, "#section1 .tell > div")
    assert said["height"] < before
    assert said["scrollHeight"] > said["height"]


# ---- what lights up ----------------------------------------------------------------------


def lit_edges(driver: Any) -> set[str]:
    found = driver.find_elements("css selector", "#section1 g.edge.lit")
    return {each.get_attribute("id") for each in found}


def test_pointing_at_a_layer_lights_up_its_kernels_and_its_steps(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    for layer in range(5):
        # Arrows end at the layer's rim, so that the middle is free.
        point_at(opened, f"b1_x{layer}")
        kernels = {edge for edge in block.edges if layer in (edge.source, edge.target)}
        boxes = {
            f"b1_{step.writes}_{edge}"
            for step in block.steps
            for edge in step.weights
            if edge in kernels
        }
        written = {str(step.writes) for step in block.steps if step.layer == layer} or {"X0"}
        assert lit(opened) == boxes | {f"b1_{each}" for each in written} | {f"b1_x{layer}"}
        arrows = {f"b1_{edge}" for edge in kernels}
        assert lit_edges(opened) == arrows | {f"{each}_into" for each in boxes}
        told = opened.find_element("css selector", "#section1 .tell").text
        assert f"Layer X{layer}" in told
        assert ("outside the block" in told) == (layer == 0)
        for edge in kernels:
            assert str(edge) in told
        for number, step in enumerate(block.steps, 1):
            assert (f"step {number} ({step.writes})" in told) == (step.layer == layer)


def test_pointing_at_a_feature_lights_up_arrows_in_both_pictures(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    for step in block.steps:
        point_at(opened, f"b1_{step.writes}")
        reads = {
            (f"b1_{other.writes}_{edge}", edge)
            for other in block.steps
            for read, edge in zip(other.reads, other.weights, strict=True)
            if read == step.writes
        }
        writes = {(f"b1_{step.writes}_{edge}", edge) for edge in step.weights}
        arrows = {f"b1_{edge}" for _, edge in reads | writes}
        into = {f"{key}_into" for key, _ in reads | writes}
        assert lit_edges(opened) == arrows | into | {f"{key}_lane" for key, _ in reads}


def test_pointing_at_a_kernel_lights_up_its_arrows_and_no_lane(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    for edge in block.edges:
        boxes = {f"b1_{step.writes}_{edge}" for step in block.steps if edge in step.weights}
        focus(opened, f"b1_{edge}")
        assert lit_edges(opened) == {f"b1_{edge}"} | {f"{key}_into" for key in boxes}


def test_beside_its_line_a_kernel_of_the_loop_is_hit(opened: Any) -> None:
    """Four pixels from where most of its line is free."""
    for edge in unroll(clique(4)).block(1).edges:
        found = opened.execute_script(
            "const path = document.querySelector(`[id='b1_${arguments[0]}'] > path`);"
            "path.scrollIntoView({block: 'center'});"
            "const map = path.getScreenCTM(), length = path.getTotalLength();"
            "return [.1, .15, .2, .25, .3, .4, .5, .6, .7, .75, .8].flatMap(part => {"
            " const [at, on] = [0, .5].map(more => path.getPointAtLength(length * part + more));"
            " const size = Math.hypot(on.x - at.x, on.y - at.y);"
            " const [p, q] = [at, on].map(each => each.matrixTransform(map));"
            " const long = Math.hypot(q.x - p.x, q.y - p.y);"
            " return [4, -4].map(off => {"
            "  const [x, y] = [p.x - (q.y - p.y) / long * off, p.y + (q.x - p.x) / long * off];"
            "  const hit = document.elementFromPoint(x, y);"
            "  return [hit.dataset.of || (hit.closest('g.edge') || {}).id || '', x, y]; }); })",
            str(edge),
        )
        hits = [hit for hit, _, _ in found].count(f"b1_{edge}")
        assert hits > len(found) / 3, (str(edge), found)


def test_pointing_beside_a_line_lights_up_its_kernel(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    x, y = opened.execute_script(
        "const path = document.querySelector(`[id='b1_W0_1'] > path`);"
        "path.scrollIntoView({block: 'center'});"
        "const at = path.getPointAtLength(path.getTotalLength() / 2)"
        ".matrixTransform(path.getScreenCTM());"
        "return [Math.round(at.x), Math.round(at.y) + 4]"
    )
    mouse = ActionChains(opened)
    mouse.w3c_actions.pointer_action.move_to_location(x, y)
    mouse.perform()
    assert "b1_W0_1" in lit_edges(opened)
    mouse.click().perform()
    assert "Kernel W0_1" in opened.find_element("css selector", "#section1 .tell").text


def test_lines_beneath_a_dimmed_item_do_not_strike_it_through(opened: Any) -> None:
    point_at(opened, "b1_X2@1")
    faint = "#section1 .steps g.node[data-kind]:not(.lit)"
    opened.execute_script(
        "document.querySelectorAll('g').forEach(g => g.style.transition = 'none')"
    )
    assert styles(opened, faint, "opacity") == ["1"]
    frame, paper = (
        styles(opened, css, name)[0]
        for css, name in (
            (f"{faint} :is(ellipse, path, polygon)", "fill"),
            (".steps", "backgroundColor"),
        )
    )
    assert frame == paper


def test_only_boxes_and_arrows_of_the_loop_are_kernels(opened: Any) -> None:
    block = unroll(clique(4)).block(1)
    found = opened.find_elements("css selector", "#section1 [data-kernel]")
    uses = {f"b1_{step.writes}_{edge}" for step in block.steps for edge in step.weights}
    arrows = {f"b1_{edge}" for edge in block.edges}
    assert {each.get_attribute("id") for each in found} == uses | arrows
    flows = opened.find_elements("css selector", "[data-kind=lane], [data-kind=flow]")
    assert flows
    for each in flows:
        assert each.get_dom_attribute("tabindex") is None
        assert each.get_dom_attribute("role") is None


def test_the_kernel_after_a_bottleneck_is_told(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(clique(3, filters=5, bottleneck=True))
    for key in ("b1_x2", "b1_X2@1", "b1_W1_2", "b1_X2@2_W3_2"):
        focus(opened, key)
        told = opened.find_element("css selector", "#section1 .tell").text
        assert "then V2" in told
        assert "5×5×3×3, 225 parameters, stages I, II" in told


def test_what_is_kept_can_be_let_go_without_a_keyboard(opened: Any) -> None:
    opened.find_element("id", "b1_X1@1").click()
    point_at(opened, "b1_X4@2")
    kept = opened.find_element("id", "b1_X1@1")
    assert kept.get_dom_attribute("aria-pressed") == "true"
    assert "b1_X1@1" in lit(opened)
    opened.find_element("css selector", "#section1 [id='b1_word_lane4']").click()
    assert not lit(opened)
    assert kept.get_dom_attribute("aria-pressed") is None


# ---- the player and the network ----------------------------------------------------------


def test_play_stops_where_another_block_is_chosen(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(EVERY_KEY["mixed"])
    play = opened.find_element("css selector", "#section1 [data-play]")
    play.click()
    assert play.get_dom_attribute("aria-label") == "Stop"
    opened.find_element("css selector", 'button.choose[data-block="2"]').click()
    assert play.get_dom_attribute("aria-label") == "Play the steps"
    assert opened.find_element("id", "step1").get_property("value") == "1"


@pytest.mark.parametrize("key", ["ENTER", "SPACE"])
def test_a_part_of_the_network_is_chosen_by_keys(
    show: Callable[[NetworkSpec], Any], key: str
) -> None:
    from selenium.webdriver.common.keys import Keys

    opened = show(EVERY_KEY["mixed"])
    item = opened.find_element("id", "block2")
    opened.execute_script("arguments[0].focus(); scrollTo(0, 0)", item)
    item.send_keys(getattr(Keys, key))
    assert opened.find_element("id", "part").text.startswith("block2: ")
    assert opened.find_element("id", "section2").is_displayed()
    assert opened.execute_script("return scrollY") == 0


def test_shapes_are_written_with_their_sign(show: Callable[[NetworkSpec], Any]) -> None:
    opened = show(clique(3, bottleneck=True))
    for key in ("stem", "block1", "readout1"):
        opened.find_element("id", key).click()
        said = opened.find_element("id", "part").text
        assert not re.search(r"\dx\d", said)
    opened.find_element("id", "block1").click()
    assert "feature 13×8×8;" in opened.find_element("id", "part").text
    found = embedded(page(clique(3, bottleneck=True)))["blocks"][0]
    shapes = [*found["features"].values(), *(k["shape"] for k in found["kernels"].values())]
    for shape in shapes:
        assert re.fullmatch(r"\d+(×\d+)+", shape)


# ---- keys --------------------------------------------------------------------------------


def test_each_picture_is_one_tab_stop(opened: Any) -> None:
    for picture in ("network", "loop", "steps"):
        stops = opened.find_elements("css selector", f".{picture} [tabindex='0']")
        assert len(stops) == 1, picture
    focus(opened, "b1_X2@1")
    stops = opened.find_elements("css selector", ".steps [tabindex='0']")
    assert [each.get_attribute("id") for each in stops] == ["b1_X2@1"]


def test_arrow_keys_move_inside_a_picture(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> list[str]:
        found = []
        for key in keys:
            opened.switch_to.active_element.send_keys(getattr(Keys, f"ARROW_{key}"))
            found.append(opened.execute_script("return document.activeElement.id"))
        return found

    focus(opened, "b1_X0")
    assert press("RIGHT", "RIGHT", "DOWN", "DOWN", "LEFT", "UP") == [
        "b1_X1@1_W0_1",
        "b1_X2@1_W0_2",
        "b1_X2@1_W1_2",
        "b1_X2@1",
        "b1_X1@1",
        "b1_X1@1_W0_1",
    ]
    focus(opened, "b1_x0")
    assert press("RIGHT", "DOWN", "LEFT", "UP", "UP") == [
        "b1_x1",
        "b1_W0_1",
        "b1_x1",
        "b1_x0",
        "b1_x0",  # there is none before it
    ]
    focus(opened, "stem")
    assert press("RIGHT", "DOWN") == ["block1", "readout1"]


def test_arrow_keys_reach_every_item_of_the_loop(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    items = opened.find_elements("css selector", "#section1 .loop [role=button]")
    focus(opened, "b1_x0")
    met = set()
    for _ in items:
        met.add(opened.execute_script("return document.activeElement.id"))
        opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert met == {each.get_attribute("id") for each in items}


def test_pictures_say_what_they_are(opened: Any) -> None:
    names = []
    for svg in opened.find_elements("css selector", "svg"):
        # An image would hide what is in it.
        assert svg.get_dom_attribute("role").split()[0] == "graphics-document"
        names.append(svg.get_dom_attribute("aria-label"))
    assert names == [
        "The network small",
        "Block 1 as a loop of 4 layers",
        "Block 1 as 8 steps",
    ]


# ---- without colour, and in the dark -----------------------------------------------------


def styles(driver: Any, css: str, *names: str) -> list[str]:
    found: list[str] = driver.execute_script(
        "const style = getComputedStyle(document.querySelector(arguments[0]));"
        "return arguments[1].map(name => style[name])",
        css,
        names,
    )
    return found


def test_what_a_step_reads_and_writes_is_seen_without_colour(opened: Any) -> None:
    take_step(opened, 2)
    outline = ("strokeDasharray", "strokeWidth")
    idle = styles(opened, "[id='b1_X1@1_W0_1'] path", *outline)
    assert idle[0] == "none"
    dashes, width = styles(opened, "[id='b1_X2@1_W1_2'] path", *outline)
    assert dashes != "none"
    assert width == "3px"
    (stroke,) = styles(opened, "[id='b1_X2@1_W1_2'] path", "stroke")
    assert contrast(stroke, "rgb(255, 255, 255)") > 4.5
    assert styles(opened, "[id='b1_X2@1'] ellipse", "strokeWidth") == ["4px"]


def luminance(colour: str) -> float:
    numbers = [float(each) for each in re.findall(r"[\d.]+", colour)[:3]]
    channels = numbers if colour.startswith("color(") else [each / 255 for each in numbers]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_in_the_dark_pictures_are_dark(show: Callable[[NetworkSpec], Any], dark: None) -> None:
    opened = show(clique(6))
    for picture in (".network", "#section1 .loop", "#section1 .steps"):
        (paper,) = styles(opened, picture, "backgroundColor")
        assert luminance(paper) < 0.05
        assert styles(opened, f"{picture} g.graph > polygon", "fill") == ["none"]
    told = opened.execute_script(
        "return Array.from(document.querySelectorAll('svg g.node'), g => {"
        " const text = g.querySelector('text'), frame = g.querySelector('ellipse, polygon, path');"
        " return text && [getComputedStyle(text).fill, frame && getComputedStyle(frame).fill]; })"
    )
    for text, frame in filter(None, told):
        assert contrast(text, frame or paper) >= 4.5
        assert luminance(frame or paper) < 0.3
    lines = opened.execute_script(
        "return Array.from(document.querySelectorAll('svg g.edge path, svg [data-kind] > path'),"
        " path => getComputedStyle(path).stroke)"
    )
    for line in lines:
        assert contrast(line, paper) >= 3


@pytest.fixture
def forced(browser: Any) -> Iterator[None]:
    for value in ("active", ""):
        features = [{"name": "forced-colors", "value": value}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if value:
            yield


def test_under_forced_colours_the_chosen_block_can_be_read(
    show: Callable[[NetworkSpec], Any], forced: None
) -> None:
    opened = show(EVERY_KEY["mixed"])
    assert opened.execute_script("return matchMedia('(forced-colors: active)').matches")
    chosen = "button[aria-pressed='true']"
    adjusted, paper, ink = styles(opened, chosen, "forcedColorAdjust", "backgroundColor", "color")
    assert adjusted == "none"
    assert contrast(ink, paper) >= 4.5
    (other,) = styles(opened, "button[aria-pressed='false']", "backgroundColor")
    assert paper != other
