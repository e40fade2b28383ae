#!/usr/bin/python3
"""Adds up a folder of conformance runs: prints tables (Markdown), writes summary.json beside them.

Exits with 1 when a test fails below Bulkhead that passes below runc and is not in known.json, when
one of known.json passes that should fail, when a run left something behind, or when there is none.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
# critest's; the longer of two that begin alike comes first.
GROUPS = ("Container Mount Propagation", "Container Mount Readonly", "Container OOM", "Container",
          "Image Manager", "Multiple Containers", "Networking", "PodSandbox", "Runtime info",
          "Security Context", "Streaming", "AppArmor", "SELinux")
STATUSES = ("passed", "failed", "skipped")


def pytest_run(path):
    """A pytest report, in the form of critest.py's. engines-2.4.2-bulkhead.xml tells what ran."""
    _, version, runtime = path.stem.split("-", 2)
    tests, seconds = {}, 0.0
    root = ElementTree.parse(path).getroot()
    for case in root.iter("testcase"):
        name = f"{case.get('classname').split('.')[-1]}::{case.get('name')}"
        bad = case.find("failure")
        if bad is None:
            bad = case.find("error")
        skipped = case.find("skipped")
        status, why = "passed", None
        if bad is not None:
            status, why = "failed", bad
        elif skipped is not None:  # among them what is expected to fail, and does
            status, why = "skipped", skipped
        if tests.get(name, {}).get("status") != "failed":  # a second report of one is its end's
            tests[name] = {"status": status, "seconds": round(float(case.get("time", 0)), 1)}
            if why is not None:
                tests[name]["message"] = " ".join((why.get("message") or "").split())[:1000]
        seconds += float(case.get("time", 0))
    return {"suite": "engines", "runtime": runtime, "engine": f"containerd {version}",
            "seconds": round(seconds), "left": [], "tests": tests}


def group(name):
    return next((each for each in GROUPS if name.startswith(each)), "other")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def count(run, names):
    found = [run["tests"][name]["status"] for name in names if name in run["tests"]]
    return " / ".join(str(found.count(status)) for status in STATUSES)


def title(run):
    return f"{run['runtime']}, {run['engine']}"


def known_reason(known, run, name):
    """Why this test does not pass in this run, if that is known."""
    for entry in known[run["suite"]]:
        if entry["test"] in name and run["runtime"] in entry["runtimes"] and \
                run["engine"].startswith(tuple(entry.get("engines", [""]))):
            return entry["why"]
    return None


def why(known, run, name):
    message = run["tests"][name].get("message", "").removeprefix("skipped - ")
    return known_reason(known, run, name) or message[:200].replace("|", "\\|")


def judge(runs, known):
    """What is not as it should be, in words."""
    wrong = []
    for run in runs:
        if not run["tests"]:
            wrong.append(f"{title(run)}: no test ran")
        if run["runtime"] == "runc":
            continue
        wrong += [f"{title(run)}: left behind: {what}" for what in run["left"]]
        for name, test in run["tests"].items():
            reason = known_reason(known, run, name)
            if test["status"] == "failed" and not reason:
                wrong.append(f"{title(run)}: {name}: {test['message'][:300]}")
            if test["status"] == "passed" and reason:
                wrong.append(f"{title(run)}: {name}: passes, but known.json says: {reason}")
    return wrong


def critest_tables(runs, known):
    names = sorted({name for run in runs for name in run["tests"]})
    head = ["group", *map(title, runs)]
    rows = []
    for each in (*GROUPS, "other"):
        of_group = [name for name in names if group(name) == each]
        if of_group:
            rows.append([each, *(count(run, of_group) for run in runs)])
    rows.append(["**all**", *(count(run, names) for run in runs)])
    text = f"passed / failed / skipped\n\n{table(head, rows)}\n"
    rows = []
    for name in names:
        states = [run["tests"].get(name, {}).get("status", "not run") for run in runs]
        if set(states) != {"passed"}:
            rows.append([name, *states, "; ".join(dict.fromkeys(
                why(known, run, name) for run, state in zip(runs, states)
                if state in ("failed", "skipped")))])
    return text + table(["test", *map(title, runs), "why"], rows)


def engines_tables(runs, known):
    rows = [[title(run), *([test["status"] for test in run["tests"].values()].count(status)
                           for status in STATUSES)] for run in runs]
    text = table(["run", *STATUSES], rows)
    rows = [[title(run), name, test["status"], why(known, run, name)]
            for run in runs for name, test in sorted(run["tests"].items())
            if test["status"] != "passed" and "virtual machines" not in test.get("message", "")]
    return text + "\n" + table(["run", "test", "status", "why"], rows)


def main():
    folder = pathlib.Path(sys.argv[1])
    known = json.loads((HERE / "known.json").read_text())
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("critest-*.json"))]
    runs += [pytest_run(path) for path in sorted(folder.glob("engines-*.xml"))]
    wrong = judge(runs, known) if runs else ["no run at all"]
    for suite, tables in (("engines", engines_tables), ("critest", critest_tables)):
        chosen = [run for run in runs if run["suite"] == suite]
        if chosen:
            print(f"## {suite}\n\n{tables(chosen, known)}")
    summary = {"runs": runs, "wrong": wrong}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print("\n".join(f"WRONG {line}" for line in wrong) or "nothing unexpected")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
