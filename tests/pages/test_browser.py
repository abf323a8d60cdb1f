"""The pages in a real browser."""

import tempfile

import pytest
from conftest import installed
from playwright.sync_api import sync_playwright
from test_comparison_page import TABLE1

from disentanglement_challenge.pages.comparison_page import read_runs, write_comparison
from disentanglement_challenge.pages.experiment_page import write_page

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PHONE, DESK = 375, 1200


@pytest.fixture(scope="module")
def browser():
    """Chromium, with a profile of its own that is thrown away."""
    executable = installed("chromium")
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(profile, executable_path=executable, args=ARGUMENTS)
        yield context
        context.close()


class Visit:
    """A page that is open, and what it complained of or asked the network for."""

    def __init__(self, browser, path, width=DESK, **media):
        self.page = browser.new_page()
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(**media)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.page.close()

    def run(self, script):
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def pages(small_experiment, wide_experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        "small": write_page(small_experiment, folder / "small.html"),
        "wide": write_page(wide_experiment, folder / "wide.html"),
        "comparison": write_comparison(read_runs([TABLE1]), folder / "comparison.html"),
    }


@pytest.mark.parametrize("name", ["small", "wide", "comparison"])
def test_a_page_opens_without_complaints_and_asks_for_nothing(browser, pages, name):
    with Visit(browser, pages[name]) as visit:
        pictures = visit.run("[...document.images].map(image => [image.complete, image.naturalWidth])")
        # Twice for each traversal, the strip and the picture that moves.
        traversed = {"small": 6, "wide": 16, "comparison": 0}[name]
        assert len(pictures) == {"small": 2, "wide": 2 + 5, "comparison": 0}[name] + 2 * traversed
        assert all(complete and width > 0 for complete, width in pictures)
        plots = visit.run("[...document.querySelectorAll('svg')].map(plot => plot.getBoundingClientRect().width)")
        assert len(plots) >= 5
        assert min(plots) > 100
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith("data:")] == [pages[name].as_uri()]


def test_3072_latents_fit_in_ten_megabytes(pages):
    assert pages["wide"].stat().st_size < 10e6


@pytest.mark.parametrize("name", ["small", "wide", "comparison"])
def test_nothing_is_wider_than_a_phone(browser, pages, name):
    with Visit(browser, pages[name], PHONE) as visit:
        assert visit.run("document.documentElement.scrollWidth") == PHONE
        # What is wider scrolls in a box of its own, which the keyboard reaches.
        overflow = "box => [box.scrollWidth > box.clientWidth, box.tabIndex]"
        boxes = visit.run(f"[...document.querySelectorAll('.scroll, pre')].map({overflow})")
        assert any(scrolls for scrolls, _ in boxes) == (name != "comparison")  # whose tables are all stacked
        assert all(index == 0 for _, index in boxes)


@pytest.mark.parametrize("name", ["small", "wide", "comparison"])
def test_tables_of_scores_fit_a_phone_and_each_number_stands_beside_its_heading(browser, pages, name):
    with Visit(browser, pages[name], PHONE) as visit:
        boxes = "[...document.querySelectorAll('.stacked')].map(table => table.parentElement)"
        tables = visit.run(f"{boxes}.map(box => [box.ariaLabel, box.scrollWidth - box.clientWidth])")
        wanted = {
            "comparison": [
                "Scores by configuration",
                "Wins of one configuration over another",
                "Settings that differ",
                "Scores of all runs",
            ]
        }.get(name, ["Scores and their published neighbours", "More metrics", "Best latent of each factor"])
        assert tables == [[label, 0] for label in wanted]
        shown = visit.run("""[...document.querySelectorAll(".stacked tbody td")].map(cell => [
            cell.dataset.label ?? "What it says",
            cell.closest("table").tHead.rows[0].cells[cell.cellIndex].textContent.trim(),
            getComputedStyle(cell, "::before").content])""")
        assert len(shown) > 15
        for label, heading, before in shown:
            assert label == heading
            assert before == ("none" if label == "What it says" else f'"{label}"')
    with Visit(browser, pages[name]) as visit:
        assert (
            visit.run("""getComputedStyle(document.querySelector(".stacked tbody td"), "::before").content""") == "none"
        )


@pytest.mark.parametrize("name", ["small", "comparison"])
def test_light_and_dark_are_both_readable(browser, pages, name):
    """Text, plots included, has the contrast that WCAG asks of it against the page."""
    script = """() => {
        const luminance = color => {
            const linear = color.match(/[\\d.]+/g).slice(0, 3).map(value => value / 255)
                .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const paper = getComputedStyle(document.body).backgroundColor;
        const contrast = color => {
            const [low, high] = [luminance(color), luminance(paper)].sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
        };
        const colors = new Set();
        for (const element of document.querySelectorAll("h1, h2, h3, p, th, td, dt, dd, a, summary"))
            if (!element.closest(".heat tbody")) colors.add(getComputedStyle(element).color);
        for (const text of document.querySelectorAll("svg text")) colors.add(getComputedStyle(text).fill);
        return [luminance(paper), Math.min(...[...colors].map(contrast))];
    }"""
    with Visit(browser, pages[name], color_scheme="light") as visit:
        paper, contrast = visit.run(script)
        assert paper > 0.9
        assert contrast >= 4.5
    with Visit(browser, pages[name], color_scheme="dark") as visit:
        paper, contrast = visit.run(script)
        assert paper < 0.05
        assert contrast >= 4.5


def test_traversals_move_unless_the_reader_wants_no_motion(browser, pages):
    moving = "document.getAnimations().filter(animation => animation.playState === 'running').length"
    with Visit(browser, pages["small"], reduced_motion="no-preference") as visit:
        assert visit.run(moving) == 6
        visit.page.uncheck("#animate")
        assert visit.run(moving) == 0
    with Visit(browser, pages["small"], reduced_motion="reduce") as visit:
        assert visit.run("document.getAnimations().length") == 0


COLUMN = """name => {
    const table = document.querySelector("#configurations table");
    const headings = [...table.tHead.rows[0].cells];
    const index = headings.findIndex(heading => heading.textContent.trim() === name);
    return [headings[index].ariaSort, headings.filter(heading => heading.ariaSort).length,
            [...table.tBodies[0].rows].map(row => row.cells[index].dataset.value ?? row.cells[index].textContent)];
}"""


def test_columns_sort_by_click(browser, pages):
    with Visit(browser, pages["comparison"]) as visit:
        _, _, before = visit.page.evaluate(COLUMN, "DCI")
        heading = visit.page.locator("#configurations th", has_text="DCI").locator("button")
        for direction in ("descending", "ascending", "descending"):
            heading.click()
            sort, sorted_columns, values = visit.page.evaluate(COLUMN, "DCI")
            assert (sort, sorted_columns) == (direction, 1)
            assert values == sorted(before, key=float, reverse=direction == "descending")
        visit.page.locator("#configurations th", has_text="Configuration").locator("button").click()
        sort, sorted_columns, values = visit.page.evaluate(COLUMN, "Configuration")
        assert (sort, sorted_columns) == ("ascending", 1)
        assert values == sorted(values)
        assert visit.complaints == []


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_columns_sort_by_keyboard(browser, pages, key):
    with Visit(browser, pages["comparison"]) as visit:
        focused = "document.activeElement.textContent"
        for _ in range(20):
            visit.page.keyboard.press("Tab")
            if visit.run(focused) == "Mean rank":
                break
        assert visit.run(focused) == "Mean rank"
        visit.page.keyboard.press(key)
        sort, _, values = visit.page.evaluate(COLUMN, "Mean rank")
        assert sort == "ascending"  # the best rank is the lowest
        assert values == sorted(values, key=float)
        visit.page.keyboard.press(key)
        assert visit.page.evaluate(COLUMN, "Mean rank")[2] == sorted(values, key=float, reverse=True)
