"""Render the pages' templates: HTML with the style sheet and script inside, and no external resources."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,  # names of experiments, factors and data sets come from users
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **content: Any) -> str:
    """Render the template of this name with the given content."""
    return encodable(_ENVIRONMENT.get_template(template).render(**content))


def encodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode, which file names may contain, by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
