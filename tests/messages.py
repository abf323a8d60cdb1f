"""Check the key facts of messages (names, values, what would be right), so that their wording can be improved."""

import re


def facts(*parts):
    """Return a pattern for `match=`: a message that contains all of these texts, in any order.

    A number is found as a whole: 48 is not found in 480.
    """
    return r"\A" + "".join(rf"(?=[\s\S]*{_whole(str(part))})" for part in parts)


def assert_error_line(stderr, *parts):
    """Assert that a script printed exactly one line, "error: ...", that contains all of these texts."""
    assert re.fullmatch(r"error: .+\n", stderr), stderr
    assert re.match(facts(*parts), stderr), (parts, stderr)


def _whole(text):
    before = r"(?<!\d)" if text[:1].isdigit() else ""
    after = r"(?!\d)" if text[-1:].isdigit() else ""
    return before + re.escape(text) + after
