"""The site: built as `make docs` builds it, every link of its pages followed."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from blocks import PAGES
from conftest import ROOT

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        reference = given.get("href") or given.get("src")
        if reference:
            self.references.append(reference)
            if tag != "a":
                self.loaded.append(reference)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (result.stderr, result.returncode) == ("", 0)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_is_there_and_the_api(site, pages):
    for path in PAGES:
        name = path.relative_to(ROOT).with_suffix(".html")
        assert site / ("index.html" if path.name == "README.md" else name) in pages
    assert site / "docs" / "tour.html" in pages
    assert "disentanglement_challenge.score.score" in pages[site / "api" / "score.html"].ids
    assert "disentanglement_challenge.objectives.factor_vae.FactorVAE" in pages[site / "api" / "objectives.html"].ids


def test_the_notebook_is_a_page_with_its_pictures(site):
    text = (site / "docs" / "tour.html").read_text()
    assert text.count('src="data:image/png;base64,') == 5
    assert '<a href="docs/tour.html">' in (site / "index.html").read_text()


def test_every_link_leads_somewhere(site, pages):
    followed = 0
    for path, page in pages.items():
        for reference in page.references:
            address = urlsplit(reference)
            if address.scheme:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.is_file(), f"{path.relative_to(site)}: {reference}"
            if address.fragment and target in pages:
                assert unquote(address.fragment) in pages[target].ids, f"{path.relative_to(site)}: {reference}"
            followed += 1
    assert followed > 1000


def test_nothing_is_loaded_from_elsewhere(pages):
    for page in pages.values():
        assert not [reference for reference in page.loaded if urlsplit(reference).netloc]
