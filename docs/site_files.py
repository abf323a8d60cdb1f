"""What mkdocs.yml makes the site of: pages where they lie in the repository, so that their links hold, and the API.

mkdocs calls `on_files` and `on_page_markdown` (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "disentanglement_challenge"
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")

# The notebook, and the page that the site has in its place.
NOTEBOOK = ROOT / "docs" / "tour.ipynb"
TOUR = NOTEBOOK.with_suffix(".md")

_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


@event_priority(100)  # before the plugins, which look at the files that there are
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the pages, what they link to and the API in the place of what lies in docs_dir."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted({*pages(), *linked()} - {NOTEBOOK}):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    files.append(File.generated(config, TOUR.relative_to(ROOT).as_posix(), content=notebook_page()))
    for name, text in api():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead to the page of the notebook where the repository's pages link to the notebook."""
    return markdown.replace(f"{NOTEBOOK.name})", f"{TOUR.name})")


def notebook_page() -> str:
    """Return the notebook with its outputs as Markdown; its pictures stand in the page."""
    parts = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        parts.extend(map(_output, cell.get("outputs", [])))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell draws](data:image/png;base64,{''.join(data['image/png']).strip()})"
    for kind in ("text/html", "text/markdown"):
        if kind in data:
            return "".join(data[kind])
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```"


def pages() -> list[Path]:
    """Return the pages that people write."""
    return [*(ROOT / name for name in TOP), *(ROOT / "docs").glob("*.md")]


def linked() -> Iterator[Path]:
    """Yield the files of the repository that pages link to or show."""
    for page in pages():
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            if path.is_file() and path.is_relative_to(ROOT):
                yield path


def api() -> Iterator[tuple[str, str]]:
    """Yield a page for each part of the package: its name, and Markdown that mkdocstrings fills from docstrings."""
    parts: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        part = names[0] if len(names) > 1 else "package"
        module = ".".join(name for name in (PACKAGE.name, *names) if name != "__init__")
        if path.stat().st_size and names[-1] != "__main__":
            parts.setdefault(part, []).append(module)
    for part, modules in parts.items():
        title = PACKAGE.name if part == "package" else f"{PACKAGE.name}.{part}"
        yield part, "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)]) + "\n"
