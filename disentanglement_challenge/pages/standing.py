"""Compare a score with the scores published in the report."""

from dataclasses import dataclass

from disentanglement_challenge.pages.results import published_tables


@dataclass(frozen=True)
class PublishedScore:
    """One row's score in one metric, from the report's tables.

    Attributes:
        label: the row's name in the table.
        table: such as "Table 1".
        value: the score.
        is_doubtful: whether a note on the table says that some rows look misaligned.
    """

    label: str
    table: str
    value: float
    is_doubtful: bool


@dataclass(frozen=True)
class Standing:
    """The place of a score among the published ones.

    Attributes:
        place: the rank; 1 if no published score is higher.
        published: all published scores, the highest first.
        above: the next higher published score, if any.
        below: the next lower or equal published score, if any.
    """

    place: int
    published: list[PublishedScore]
    above: PublishedScore | None
    below: PublishedScore | None


def standing(metric: str, score: float) -> Standing:
    """Return the place of a score in this metric among all rows of the report's three tables."""
    rows = sorted(published_scores(metric), key=lambda row: -row.value)
    higher = [row for row in rows if row.value > score]
    lower = rows[len(higher) :]
    return Standing(len(higher) + 1, rows, higher[-1] if higher else None, lower[0] if lower else None)


def published_scores(metric: str) -> list[PublishedScore]:
    """Return the published scores in this metric, in the order of the report's tables."""
    return [
        PublishedScore(row["label"], table["title"].split(":")[0], row["scores"][metric], bool(table["notes"]))
        for table in published_tables().values()
        for row in table["rows"].values()
    ]


def published_notes() -> list[str]:
    """Return the notes on the report's tables."""
    return [note for table in published_tables().values() for note in table["notes"]]
