"""The code blocks of the README and of docs/, by section."""

import re
from typing import NamedTuple

from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# A block of one of the first three is saved where its first line is a comment that names a file.
LANGUAGES = ("python", "gin", "csv", "sh")
NOT_CODE = ("text",)

_FILE = re.compile(r"# ([\w/]+\.(?:py|gin|csv))")


class Block(NamedTuple):
    """A fenced block."""

    page: str
    section: str
    line: int
    language: str
    text: str

    @property
    def file(self):
        """Where the block is to be saved; None where it is to be run."""
        found = _FILE.fullmatch(self.text.split("\n", 1)[0])
        return found.group(1) if found and self.language != "sh" else None


def blocks():
    """All blocks of all pages."""
    found = []
    for path in PAGES:
        page, section, language, lines = str(path.relative_to(ROOT)), "", None, []
        for number, line in enumerate(path.read_text().split("\n"), start=1):
            if line.startswith("```"):
                if language is None:
                    language, lines, start = line[3:].strip(), [], number
                else:
                    found.append(Block(page, section, start, language, "\n".join(lines)))
                    language = None
            elif language is not None:
                lines.append(line)
            elif line.startswith("## "):
                section = line[3:].strip()
        assert language is None, f"{page}: the block of line {start} does not end"
    return found


def prose(path):
    """A page's text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
