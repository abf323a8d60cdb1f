"""The pages' templates: HTML with the style sheet and script inside, and nothing from anywhere else."""

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
    """The template filled in."""
    return encodable(_ENVIRONMENT.get_template(template).render(**content))


def encodable(text: str) -> str:
    """The text with a question mark for what UTF-8 has nothing for, which the name of a file may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
