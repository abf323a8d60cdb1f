"""Where a score stands among the report's published ones."""

from dataclasses import dataclass

from disentanglement_challenge.pages.tables import published_tables


@dataclass(frozen=True)
class PublishedScore:
    """A row of the report's tables in one metric.

    Attributes:
        label: what the table calls the row.
        table: such as "Table 1".
        value: the score.
        is_doubtful: the table has a note that says some of its rows look misaligned.
    """

    label: str
    table: str
    value: float
    is_doubtful: bool


@dataclass(frozen=True)
class Standing:
    """A score among the published ones.

    Attributes:
        place: 1 for a score that no published one exceeds.
        published: all rows, the highest first.
        above: the next higher one, if any.
        below: the next lower or equal one, if any.
    """

    place: int
    published: list[PublishedScore]
    above: PublishedScore | None
    below: PublishedScore | None


def standing(metric: str, score: float) -> Standing:
    """Where a score would stand in this metric among all rows of the report's three tables."""
    rows = sorted(published_scores(metric), key=lambda row: -row.value)
    higher = [row for row in rows if row.value > score]
    lower = rows[len(higher) :]
    return Standing(len(higher) + 1, rows, higher[-1] if higher else None, lower[0] if lower else None)


def published_scores(metric: str) -> list[PublishedScore]:
    """All rows of the report's tables in this metric, in their order."""
    return [
        PublishedScore(row["label"], table["title"].split(":")[0], row["scores"][metric], bool(table["notes"]))
        for table in published_tables().values()
        for row in table["rows"].values()
    ]


def published_notes() -> list[str]:
    """What is to be said beside the report's tables."""
    return [note for table in published_tables().values() for note in table["notes"]]
