"""The report as a reader sees it, in headless Chromium; skipped where that is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"
)

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)
POINTS = "figure[data-chart=n0_macs] svg .mark-symbol path"
RUN = "digits-resnet20-greg_1-default-0.5.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show(browser: webdriver.Chrome, page: Path) -> None:
    """Open a page and wait until all its figures are drawn."""
    browser.get(page.as_uri())
    wait = WebDriverWait(browser, 60)
    wait.until(lambda _: not browser.find_elements(By.CSS_SELECTOR, "figure:not(.drawn)"))


@pytest.fixture
def index(browser: webdriver.Chrome, report: Path) -> webdriver.Chrome:
    show(browser, report / "index.html")
    return browser


def find(browser: webdriver.Chrome, css: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, css)


def column(browser: webdriver.Chrome, place: int) -> list[str]:
    """Return the shown texts of a column of the first network's table, without the base."""
    rows = "#tables section:first-of-type tbody:not(.base) tr:not([hidden])"
    return [cell.text for cell in find(browser, f"{rows} td:nth-child({place})")]


@pytest.mark.parametrize("name", ["index.html", f"runs/{RUN}"])
def test_a_page_draws_its_figures_without_a_word_on_the_console(
    browser: webdriver.Chrome, report: Path, name: str
) -> None:
    browser.get_log("browser")
    show(browser, report / name)
    figures = find(browser, "figure")
    assert figures
    assert all(figure.find_elements(By.CSS_SELECTOR, "svg path") for figure in figures)
    assert browser.get_log("browser") == []


def test_the_page_of_many_seeds_draws_its_figures(browser: webdriver.Chrome, many: Path) -> None:
    (page,) = (many / "runs").glob("*.html")
    browser.get_log("browser")
    show(browser, page)
    assert browser.get_log("browser") == []
    assert len(find(browser, "figure.drawn")) == 5
    assert not find(browser, "figure .role-legend")  # which would list the seeds


@pytest.mark.parametrize("name", ["index.html", f"runs/{RUN}"])
def test_a_page_requests_only_what_lies_beside_it(
    browser: webdriver.Chrome, report: Path, name: str
) -> None:
    show(browser, report / name)
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    requested: list[str] = browser.execute_script(script)
    beside = (report / "runs" / "charts.js").as_uri()
    assert set(requested) <= ({beside} if name != "index.html" else set())


@pytest.mark.parametrize("name", ["index.html", f"runs/{RUN}"])
def test_every_link_leads_to_a_file_or_a_place_in_the_page(
    browser: webdriver.Chrome, report: Path, name: str
) -> None:
    show(browser, report / name)
    page = report / name
    targets = [str(link.get_dom_attribute("href")) for link in find(browser, "a[href]")]
    assert targets
    for target in targets:
        file, _, place = target.partition("#")
        assert (page.parent / file).is_file() if file else find(browser, f"#{place}"), target


def test_a_click_on_a_heading_sorts_in_both_directions(index: webdriver.Chrome) -> None:
    heads = find(index, "#tables section:first-of-type thead button")
    place = next(i for i, head in enumerate(heads, 1) if head.text.startswith("top-1"))
    head = heads[place - 1]
    for reverse in (False, True):
        index.execute_script("arguments[0].click()", head)
        numbers = [float(text.split()[0]) for text in column(index, place)]
        assert len(numbers) > 20
        assert numbers == sorted(numbers, reverse=reverse)


def test_a_filter_leaves_the_rows_with_all_its_words(index: webdriver.Chrome) -> None:
    field = find(index, "#tables input[type=search]")[0]
    field.send_keys("GREG 0.75")
    assert column(index, 1) == ["greg_1"]
    index.execute_script(
        "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", field
    )
    assert len(column(index, 1)) == 30


def hovered(browser: webdriver.Chrome, mark: WebElement) -> dict[str, str]:
    """Return the words of the tooltip of a mark."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(browser).move_to_element(mark).perform()
    css = "#vg-tooltip-element.visible tr"
    WebDriverWait(browser, 10).until(lambda _: find(browser, css))
    cells = [row.find_elements(By.CSS_SELECTOR, "td") for row in find(browser, css)]
    return {key.text.rstrip(":"): value.text for key, value in cells}


def test_hovering_over_a_point_names_method_setting_n_and_interval(
    index: webdriver.Chrome,
) -> None:
    words = hovered(index, find(index, POINTS)[0])
    names = ["method", "setting", "ratio", "n", "top-1", "95 % interval", "MACs speedup"]
    assert list(words) == names
    assert (words["setting"], words["n"], words["95 % interval"]) == ("default", "2", "–")
    assert words["top-1"].endswith(" %")


def opacities(browser: webdriver.Chrome, chart: str, kind: str) -> set[str]:
    marks = find(browser, f"figure[data-chart={chart}] svg .mark-{kind} path")
    return {str(mark.get_dom_attribute("opacity") or "1") for mark in marks}


def state(browser: webdriver.Chrome) -> Any:
    """Return how faded the points are, the pressed keys, and the number of faded rows."""
    pressed = [key.text for key in find(browser, "button[aria-pressed=true]")]
    faded = len(find(browser, "#tables tr.faded"))
    points = [opacities(browser, f"n{network}_macs", "symbol") for network in (0, 1)]
    return points, pressed, faded


def test_a_click_on_a_method_highlights_it_in_every_figure_and_table(
    index: webdriver.Chrome,
) -> None:
    everything = ([{"1"}, {"1"}], [], 0)
    assert state(index) == everything
    key = next(key for key in find(index, ".keys button") if key.text == "greg_1")
    index.execute_script("arguments[0].click()", key)
    others = 62 - 2 * 3  # without the three rows of greg_1 on each network
    assert state(index) == ([{"1", "0.1"}, {"1", "0.1"}], ["greg_1"], others)
    index.execute_script("arguments[0].click()", key)
    assert state(index) == everything


def test_a_click_on_a_point_highlights_its_method(index: webdriver.Chrome) -> None:
    point = find(index, POINTS)[0]
    method = hovered(index, point)["method"]
    ActionChains(index).click(point).perform()
    WebDriverWait(index, 10).until(lambda _: find(index, "button[aria-pressed=true]"))
    assert state(index)[1] == [method]


def test_nothing_is_wider_than_a_phone(browser: webdriver.Chrome, report: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for name in ("index.html", f"runs/{RUN}"):
            show(browser, report / name)
            assert browser.execute_script("return document.documentElement.scrollWidth") == 390
            charts = find(browser, "figure svg")
            assert all(chart.size["width"] <= 390 for chart in charts)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
