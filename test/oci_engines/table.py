"""The table at the end: features of engines, runc beside bulkhead."""

RANKS = ["", "ok", "as meant", "skipped", "FAILED"]  # the worst of several is told


class Table:
    def __init__(self):
        self.cells = {}
        self.reasons = []

    def add(self, test, engine, runtime, report, differs):
        """One phase of a test."""
        feature = test.removeprefix("test_").replace("_", " ")
        if report.failed:
            word = "FAILED"
        elif report.skipped and not hasattr(report, "wasxfail"):
            word = "skipped"
            reason = report.longrepr[2].removeprefix("Skipped: ")
            self.reasons.append(f"{feature}, {engine}, {runtime}: {reason}")
        elif report.when == "teardown":
            word = "as meant" if differs else "ok"
        else:
            word = ""
        key = feature, engine, runtime
        self.cells[key] = max(self.cells.get(key, ""), word, key=RANKS.index)

    def text(self):
        columns = list(dict.fromkeys((engine, runtime) for _, engine, runtime in self.cells))
        columns.sort(key=lambda column: (column[0] == "buildah", column[0], column[1] != "runc"))
        features = list(dict.fromkeys(feature for feature, *_ in self.cells))
        rows = [["feature", *(" ".join(column) for column in columns)],
                ["---"] * (len(columns) + 1)]
        rows += [[feature, *(self.cells.get((feature, *column), "") or "-" for column in columns)]
                 for feature in features]
        widths = [max(len(row[at]) for row in rows) for at in range(len(columns) + 1)]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
                 for row in rows]
        if self.reasons:
            lines += ["", "Skipped:", *(f"- {reason}" for reason in dict.fromkeys(self.reasons))]
        return "\n".join(lines) + "\n" if self.cells else ""
