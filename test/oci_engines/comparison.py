"""What one runtime does beside another, and the differences that are meant.

docs/compatibility.md has a table of those. A difference that is not in it fails a test; so does a
row of it that is not true any more.
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"
COLUMNS = ["engine", "test", "fact", "runc", "bulkhead", "reason"]
WHOLE = "*"  # a fact: the whole test
UNKNOWN = object()


class Difference:
    """One row: engines (or `*`), test, and fact: `*` is a test that fails as a whole."""

    def __init__(self, cells):
        self.engine, self.test, self.fact, self.runc, self.bulkhead, self.reason = cells

    def fits(self, engine, test, fact):
        return (self.engine == "*" or engine in self.engine.split(", ")) and \
            (self.test, self.fact) == (test, fact)

    def __str__(self):
        return f"{self.engine}, {self.test}, {self.fact}"


def read(text):
    """The rows of the table below the headline with our columns."""
    rows, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells == COLUMNS:
            inside = True
        elif inside and set("".join(cells)) - set("-: "):
            if len(cells) != len(COLUMNS) or not all(cells):
                raise ValueError(f"line {number}: not {len(COLUMNS)} cells with text: {line}")
            rows.append(Difference([cell.strip("`").replace(r"\|", "|") for cell in cells]))
    return rows


class Comparison:
    """Called in a test with each fact that both runtimes must agree about."""

    def __init__(self, engine, runtime, test, case, reference, meant):
        self.engine, self.runtime, self.test, self.case = engine, runtime, test, case
        self.reference, self.meant = reference, meant
        self.used = []

    def __call__(self, fact, value, expected=UNKNOWN):
        if self.runtime == "runc":
            assert expected is UNKNOWN or value == expected, \
                f"{fact}: {value!r}, not {expected!r}"
            self.reference[self.case, fact] = value
            return
        expected = self.reference.get((self.case, fact), expected)
        if expected is UNKNOWN or value == expected:
            return
        row = next((row for row in self.meant if row.fits(self.engine, self.test, fact)), None)
        assert row, f"{fact}: {value!r}, but {expected!r} with runc; " \
            f"{DOCUMENT.name} has no such row"
        assert row.bulkhead in ("*", str(value)), \
            f"{fact}: {value!r}, but {DOCUMENT.name} says {row.bulkhead!r}"
        self.used.append(row)

    def check(self):
        """What is written down as different must be."""
        for row in self.meant:
            if row.fits(self.engine, self.test, row.fact) and row.fact != WHOLE:
                assert row in self.used, f"no difference any more: {row} of {DOCUMENT.name}"

    def whole(self):
        """The row that says that this test cannot pass, or None."""
        return next((row for row in self.meant if row.fits(self.engine, self.test, WHOLE)), None)
