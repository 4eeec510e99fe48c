"""The page in a real browser, from disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cliquegraph import NetworkSpec, unroll
from cliquegraph.draw.render import Request, render
from cliquegraph.errors import UsageError
from tests.networks import EVERY_KEY, clique, shipped

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


def test_the_page_is_small_alone_and_the_same_every_time() -> None:
    text = page(shipped("cliquenet_s3"))
    assert len(text.encode()) < 1_500_000
    assert "src=" not in text
    assert "<link" not in text
    assert "@import" not in text
    assert text == page(shipped("cliquenet_s3"))


def test_a_comparison_is_no_page() -> None:
    steps = unroll(clique(2))
    with pytest.raises(UsageError, match="a comparison is no page"):
        render(steps, Request(), "html", steps)


# ---- the browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="no Selenium")
    if not (BROWSER and DRIVER):
        pytest.skip(HOW)
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,1400")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    file = tmp_path / "page.html"
    file.write_text(page(clique(4)), encoding="utf-8")
    browser.get(file.as_uri())
    return browser


def lit(driver: Any) -> set[str]:
    found = driver.find_elements("css selector", "#section1 g.node.lit")
    return {each.get_attribute("id") for each in found}


def point_at(driver: Any, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    item = driver.find_element("id", key)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", item)
    ActionChains(driver).move_to_element(item).perform()


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
    opened.execute_script("arguments[0].focus()", item)
    assert "b1_X2@1_W1_2" in lit(opened)
    item.send_keys(Keys.ENTER)
    point_at(opened, "b1_X4@1")
    assert "b1_X2@1_W1_2" in lit(opened)  # kept
    opened.find_element("css selector", "body").send_keys(Keys.ESCAPE)
    assert not lit(opened)
    picture = opened.find_element("css selector", "#section1 .picture")
    before = picture.find_element("css selector", "svg").get_dom_attribute("viewBox")
    picture.send_keys("+")
    assert picture.find_element("css selector", "svg").get_dom_attribute("viewBox") != before
    picture.send_keys("0")
    after = picture.find_element("css selector", "svg").get_dom_attribute("viewBox")
    assert [float(x) for x in after.split()] == [float(x) for x in before.split()]


def test_blocks_are_chosen(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(EVERY_KEY["mixed"]), encoding="utf-8")
    browser.get(file.as_uri())
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


def test_a_part_of_the_network_tells_its_figures(opened: Any) -> None:
    opened.find_element("id", "classifier").click()
    told = opened.find_element("id", "part").text
    assert told.startswith("classifier: ")
    assert "parameters; " in told


def test_every_control_has_a_name(opened: Any) -> None:
    for control in opened.find_elements("css selector", "button, input, [role=button]"):
        assert control.accessible_name, control.get_attribute("outerHTML")[:200]


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(shipped("cliquenet_k64_t15")), encoding="utf-8")
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(file.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
