#!/usr/bin/python3
"""critest against a containerd or a CRI-O of its own: writes what each test did as JSON.

    critest.py --runtime bulkhead [--containerd-bin DIR] [--focus REGEX] OUTPUT.json
    critest.py --runtime bulkhead-oci --crio-bin DIR [--focus REGEX] OUTPUT.json
"""

import argparse
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / name) for name in ("engines", "integration")]

import host  # noqa: E402
import registry  # noqa: E402
from containerd import SHIMS, Containerd  # noqa: E402
from cri import Cri  # noqa: E402
from crio import Crio  # noqa: E402
from private import CGROUPS  # noqa: E402

PARENTS = ("test.slice", "k8s.io")  # critest's control groups, which a kubelet would remove
SECONDS = 5400  # of a whole run: emulated VMs on a machine with other work


def tool(name, program):
    """A program of a built tool."""
    folder = subprocess.run([HERE / "build-tools", "--print", name], check=True, text=True,
                            stdout=subprocess.PIPE, timeout=60).stdout.strip()
    return pathlib.Path(folder) / program


def parents():
    return {top / name for top in (CGROUPS, *CGROUPS.iterdir()) for name in PARENTS
            if (top / name).is_dir()}


def remove(folders):
    for top in folders:
        for path in sorted([top, *top.rglob("*")], reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):  # not empty: then it stays
                    path.rmdir()


def outcomes(report):
    """{test: {status, seconds, message}} of a JUnit report; without what was not chosen."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = re.sub(r"^\[It\] (\[k8s\.io\] )?", "", case.get("name"))
        failure, skipped = case.find("failure"), case.find("skipped")
        if failure is None:
            failure = case.find("error")
        if not case.get("name").startswith("[It]") or (
                skipped is not None and skipped.get("message") == "skipped"):
            continue
        status, why = "passed", None
        if failure is not None:
            status, why = "failed", failure
        elif skipped is not None:
            status, why = "skipped", skipped
        found[name] = {"status": status, "seconds": round(float(case.get("time", 0)), 1)}
        if why is not None:
            found[name]["message"] = " ".join((why.get("message") or why.text or "").split())[:1000]
    return found


def measure(engine, focus, seed, log):
    """Runs critest to its end; the path of its report."""
    report, temp = engine.folder / "junit.xml", engine.folder / "critest"
    temp.mkdir()
    options = [f"-ginkgo.junit-report={report}", "-ginkgo.no-color", f"-ginkgo.seed={seed}",
               f"-ginkgo.timeout={SECONDS}s", "-test.timeout=0"]
    options += [f"-ginkgo.focus={focus}"] if focus else []
    subprocess.run(
        engine.inside(tool("cri-tools", "critest"), *options,
                      "-runtime-endpoint", f"unix://{engine.socket}",
                      "-image-endpoint", f"unix://{engine.socket}"),
        env={**engine.environment, "TMPDIR": str(temp)}, stdin=subprocess.DEVNULL, stdout=log,
        stderr=log, check=False, timeout=SECONDS + 60)
    return report


def made(given, stand_ins):
    """The engine."""
    if given.crio_bin:
        return Crio(given.runtime, given.crio_bin.resolve(), registry.ADDRESS)
    pause = registry.pause_image(stand_ins, given.output.with_suffix(".pause.tar"))
    try:
        return Containerd(given.runtime, [pause], given.containerd_bin,
                          f"http://{registry.ADDRESS}")
    finally:
        pause.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", default="bulkhead", choices=list(SHIMS))
    parser.add_argument("--containerd-bin", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--crio-bin", type=pathlib.Path, metavar="DIR", help="of crio and pinns")
    parser.add_argument("--focus", help="only tests whose name matches this regular expression")
    parser.add_argument("--seed", type=int, default=1, help="of the tests' order")
    parser.add_argument("output", type=pathlib.Path)
    given = parser.parse_args()
    given.output = given.output.resolve()
    host.adopt_orphans()
    there, start = parents(), time.time()
    crane, stand_ins = tool("crane", "crane"), tool("stand-ins", "stand-ins")
    engine = made(given, stand_ins)
    try:
        with open(given.output.with_suffix(".log"), "wb") as log, \
                registry.served(engine, crane, stand_ins):
            tests = outcomes(measure(engine, given.focus, given.seed, log))
        Cri(engine.socket).sweep()  # a test of critest that fails may leave its pod
        with contextlib.suppress(AssertionError):
            host.eventually(lambda: not engine.left_over(), 30)
        left = engine.left_over()
        given.output.write_text(json.dumps({
            "suite": "critest", "runtime": given.runtime, "engine": engine.title,
            "seconds": round(time.time() - start), "left": left, "tests": tests}, indent=1) + "\n")
    finally:
        given.output.with_suffix(".engine.log").write_bytes(engine.log.read_bytes())
        engine.close()
        remove(parents() - there)
    bad = sum(test["status"] == "failed" for test in tests.values())
    print(f"critest, {engine.title}, {given.runtime}: {len(tests)} tests, "
          f"{bad} failed, {len(left)} left behind, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
