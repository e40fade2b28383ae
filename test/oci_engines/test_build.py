"""Images made by RUN in containers: Docker's classic builder, Podman, buildah."""

import contextlib

import pytest
from engine import IMAGE

pytestmark = pytest.mark.engines("docker", "podman", "buildah")
STEPS = f"""FROM {IMAGE}
ENV WORD=word
COPY there /work/there
RUN cat /work/there > /work/made && echo $WORD >> /work/made && chown alice /work/made
RUN ["rm", "/bin/vi"]
WORKDIR /home/alice
USER alice
RUN id -un > who && pwd >> who
"""


@contextlib.contextmanager
def built(engine, folder, steps):
    """How the build of an image went, and the image's name."""
    (folder / "Dockerfile").write_text(steps)
    name = f"localhost/built{next(engine.numbers)}"
    before = set(engine.listed("images", "-aq"))
    try:
        if engine.kind == "docker":
            with engine.default_runtime():
                yield engine("build", "--rm", "--force-rm", "-t", name, folder), name
        elif engine.kind == "podman":
            yield engine("build", "--isolation", "oci", "--layers=false", "--force-rm", "-t",
                         name, folder), name
        else:
            yield engine.buildah("bud", "-t", name, folder), name
    finally:
        for image in set(engine.listed("images", "-aq")) - before:
            engine("rmi", "-f", image)


def test_build(engine, same, tmp_path):
    (tmp_path / "there").write_text("from the context\n")
    with built(engine, tmp_path, STEPS) as (told, name):
        told.ok()
        told = engine.run(name, "sh", "-c", "cat /work/made who; stat -c %U /work/made; "
                          "ls /bin/vi 2>/dev/null; id -un").ok()
        same("image", told.lines, ["from the context", "word", "alice", "/home/alice", "alice",
                                   "alice"])


def test_build_that_fails(engine, same, tmp_path):
    steps = f"FROM {IMAGE}\nRUN echo before; exit 7\nRUN touch /never\n"
    with built(engine, tmp_path, steps) as (told, _):
        same("exit code", told.code)
        same("tells of the step's", told.code != 0 and "7" in told.text + told.error, True)
        same("has its output", "before" in told.text + told.error, True)


@pytest.mark.engines("buildah")
def test_working_container(engine, same, tmp_path):
    """buildah's own way: a container that is changed step by step."""
    name = engine.buildah("from", IMAGE).ok().text.strip()
    try:
        told = engine.buildah("run", name, "--", "sh", "-c", "echo made > /work/made; echo out; "
                              "echo err >&2; exit 5")
        same("exit code", told.code)
        same("streams", (told.text, "err\n" in told.error), ("out\n", True))
        (tmp_path / "volume").mkdir()
        told = engine.buildah("run", "-v", f"{tmp_path}/volume:/volume", "--user", "alice",
                              "--workingdir", "/work", "--network", "none", name, "--", "sh", "-c",
                              "cat made; id -un; ls /sys/class/net; ls -d /volume").ok()
        same("second step", told.lines, ["made", "alice", "lo", "/volume"])
    finally:
        engine.buildah("rm", name).ok()
