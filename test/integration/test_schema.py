"""The runtime specification's own JSON schema and examples, which `test/conformance/build-tools
runtime-spec` fetches: what Bulkhead writes is valid by them, and it refuses what they forbid."""

import json
import re
import subprocess

import host as host_module
import oci
import pytest
import schema as schema_module

SLEEP = ["sleep", "100000"]
CONFIG = "config-schema.json"

# Examples that the schema takes, and that are refused: by which words.
GOOD_BUT_REFUSED = {
    "minimal.json": "process: missing",  # the specification asks for it by the time of `start`
    "spec-example.json": "linux.resources.cpu.realtimeRuntime: ",
    "linux-rdma.json": "linux.resources.rdma: ",
    "zos-example.json": "ociVersion: ",  # of a specification that was never released
    "zos-minimal.json": "process: missing",
}


@pytest.fixture(scope="session")
def schema():
    got = subprocess.run([host_module.ROOT / "test/conformance/build-tools", "runtime-spec"],
                         capture_output=True, text=True, timeout=120, check=False)
    if got.returncode == 3:
        pytest.skip(got.stderr.strip())
    assert got.returncode == 0, got.stderr
    return schema_module.Schema(got.stdout.strip())


@pytest.fixture(scope="session")
def table():
    return schema_module.Table((host_module.ROOT / "docs/spec-coverage.md").read_text())


@pytest.fixture
def engine(host, rootfs):
    made = oci.Engine(host, rootfs)
    yield made
    made.close()


def examples(schema, kind, verdict):
    found = sorted((schema.folder / "test" / kind / verdict).glob("*.json"))
    assert found
    return found


class Reader:
    """Has `create` read documents. What is as it should be is refused all the same, without a VM:
    a container of that name is there."""

    def __init__(self, engine):
        self.engine = engine
        self.bundle = engine.host.folder / "read"
        self.bundle.mkdir()
        self.taken = engine.host.state / "containers" / "taken"
        self.taken.mkdir(parents=True)

    def error(self, text):
        (self.bundle / "config.json").write_text(text)
        self.engine.log.unlink(missing_ok=True)
        self.engine("create", "--bundle", self.bundle, "taken").fails("", code=1)
        message = self.engine.last_error()
        return "" if "ID already exists" in message else message


@pytest.fixture
def reader(engine):
    made = Reader(engine)
    yield made
    made.taken.rmdir()


# --- what Bulkhead writes
@pytest.mark.parametrize("options", [[], ["--rootless"]])
def test_spec(schema, engine, tmp_path, options):
    engine("spec", "--bundle", tmp_path, *options).ok()
    assert schema.errors(CONFIG, json.loads((tmp_path / "config.json").read_text())) == []


def test_features(schema, engine):
    assert schema.errors("features-schema.json", json.loads(engine("features").ok().text)) == []


def test_states(schema, engine, tmp_path):
    """Those of `state`, and those that hooks of the host and of the container are given."""
    def hook(where):
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {where}"]}]
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = {kind: hook(tmp_path / kind) for kind in kinds} | {"startContainer": hook("/shared/in")}
    document = oci.spec(SLEEP, hooks=hooks, annotations={"a": "b"})
    document["mounts"].append({"destination": "/shared", "type": "bind", "source": str(tmp_path),
                               "options": ["bind"]})
    box = engine.create("box", document)
    states = [engine.state("box")]
    box.start()
    states.append(engine.state("box"))
    engine("kill", "box", "KILL").ok()
    box.wait()
    states.append(engine.state("box"))
    box.delete().ok()
    states += [json.loads((tmp_path / name).read_text()) for name in (*kinds, "in")]
    for state in states:
        assert schema.errors("state-schema.json", state) == [], state
    assert [state["status"] for state in states[:3]] == ["created", "running", "stopped"]


# --- what it reads
def test_good_examples(schema, reader):
    for path in examples(schema, "config", "good"):
        error = reader.error(path.read_text())
        expected = GOOD_BUT_REFUSED.get(path.name)
        assert expected in error if expected else error == "", (path.name, error)


def test_bad_examples(schema, reader):
    for path in examples(schema, "config", "bad"):
        assert reader.error(path.read_text()) != "", path.name


def test_the_schema_knows_its_own_examples(schema):
    """So that the tests here can fail."""
    for kind in ("config", "features", "state"):
        for path in examples(schema, kind, "good"):
            assert schema.errors(f"{kind}-schema.json", json.loads(path.read_text())) == [], path
        for path in examples(schema, kind, "bad"):
            try:
                document = json.loads(path.read_text())
            except ValueError:
                continue
            assert schema.errors(f"{kind}-schema.json", document) != [], path


def test_every_property_has_a_row(schema, table):
    paths = [path for path, _, _ in schema.walk(table.is_refused)]
    assert len(paths) > 200
    assert [path for path in paths if not table.knows(path)] == []


def test_every_row_is_of_the_schema(schema, table):
    """A name that the specification does not know is a slip of the table."""
    paths = [path for path, _, _ in schema.walk()]
    newer = {"freebsd", "linux.netDevices", "linux.memoryPolicy"}  # of specification 1.3
    assert {field for field in table.fields
            if not any(schema_module.starts(path, field) for path in paths)} == newer
    kinds = schema.file("defs-linux.json")["definitions"]["NamespaceType"]["enum"]
    assert sorted(table.fields["linux.namespaces[].type"]) == sorted(kinds)


# What the schema forbids and Bulkhead takes.
TAKEN = [
    # The schema's 512 is a slip for 0777; runc takes the bits above it, too.
    ("linux.devices[].fileMode", 513),
    # Of specification 1.3, where it may be left out.
    ("linux.resources.pids", "without limit"),
]
# What the schema allows and Bulkhead refuses, beside the rows of the table that do.
REFUSED = [
    ("process.scheduler.policy", "SCHED_ISO"),  # no Linux has it
    ("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY"),
    ("linux.seccomp.syscalls[].action", "SCMP_ACT_NOTIFY"),
    # Not in the libseccomp of Debian 12.
    *(("linux.seccomp.architectures[]", "SCMP_ARCH_" + name)
      for name in ("LOONGARCH64", "M68K", "SH", "SHEB")),
]
# What the prose asks for and the schema does not: a value, and what must stand beside one.
DEVICES = ["weightDevice", *(f"throttle{way}{kind}Device" for way in ("Read", "Write")
                             for kind in ("Bps", "IOPS"))]
NUMBER = {name: {"weight" if name == "weightDevice" else "rate": 10} for name in DEVICES}
LIMITED = {name: {"major": 1, "minor": 1, **NUMBER[name]} for name in DEVICES}
BLOCK_IO = "linux.resources.blockIO."
VALUES = {
    "ociVersion": "1.2.1", "process": {"cwd": "/", "args": ["true"]},
    "process.terminal": False,  # else `create` needs a socket for it
    "linux.resources.devices[].type": "c", "linux.resources.devices[].access": "r",
    BLOCK_IO + "weight": 10, BLOCK_IO + "weightDevice[].weight": 10,
    "linux.personality": {"domain": "LINUX"},
    **{BLOCK_IO + name: [LIMITED[name]] for name in DEVICES},
    **{BLOCK_IO + name + "[]": LIMITED[name] for name in DEVICES},
}
BESIDE = {
    "process.scheduler.priority": {"policy": "SCHED_FIFO"},
    **{"process.scheduler." + name: {"policy": "SCHED_DEADLINE"}
       for name in ("runtime", "deadline", "period")},
    "linux.seccomp.defaultErrnoRet": {"defaultAction": "SCMP_ACT_ERRNO"},
    "linux.seccomp.syscalls[].errnoRet": {"action": "SCMP_ACT_ERRNO"},
    **{f"{BLOCK_IO}{name}[].{number}": NUMBER[name] for name in DEVICES
       for number in ("major", "minor")},
}


def base():
    document = oci.spec("true")
    document["linux"]["namespaces"].append({"type": "time"})
    del document["hostname"]  # it would need the UTS namespace, which cases replace
    return document


def properties(schema, table):
    """Those of the table, without what is below one that is refused."""
    return [(path, name, node) for path, name, node in schema.walk(table.is_refused)
            if not any(table.is_refused(path[:i]) for i, c in enumerate(path) if c in ".[")]


def names(error, path):
    """Whether the error is of that place; one of a list's words may be of the list."""
    place = path.replace("[]", "[0]").replace(".*", ".x")
    error = re.sub(r'\["(\w+)"\]', r".\1", error)
    return any(f"config.json: {word}" in error for word in (place, place.removesuffix("[0]")))


def setting(value, **beside):
    def change(parent, key):
        parent[key] = value
        if beside:
            parent.update(beside)
    return change


def removing(word):
    return lambda parent, key: parent[key].pop(word, None)


def test_what_the_schema_forbids(schema, table, reader):
    """Of each property a value of another type, or beyond its bounds, or without what it needs."""
    wrong, count = [], 0
    for path, _, node in properties(schema, table):
        cases = [(value, setting(value)) for value in schema.forbidden(node)]
        if not table.is_refused(path):
            cases += [(f"without {word}", removing(word)) for word in node.get("required", [])]
        for value, change in cases:
            document = schema.put(base(), path, change)
            assert schema.errors(CONFIG, document), (path, value)
            error = reader.error(json.dumps(document))
            count += 1
            if error if (path, value) in TAKEN else not names(error, path):
                wrong.append((path, value, error))
    assert not wrong, "\n".join(map(str, wrong))
    assert count > 400


def test_what_the_schema_allows(schema, table, reader):
    """Of each property a value that the schema allows, and each of a list of words."""
    wrong, count = [], 0
    for path, name, node in properties(schema, table):
        if "idMappings" in path:  # they go together, and with a user namespace: see test_user_namespaces.py
            continue
        for value in [VALUES[path]] if path in VALUES else schema.allowed(name, node):
            if value == "user":  # the same
                continue
            document = schema.put(base(), path, setting(value, **BESIDE.get(path, {})))
            assert schema.errors(CONFIG, document) == [], (path, value)
            error = reader.error(json.dumps(document))
            count += 1
            # An empty object asks for nothing: Go writes it for what nobody set.
            refused = value != {} and (table.is_refused(path) or (path, value) in REFUSED)
            if not names(error, path) if refused else error:
                wrong.append((path, value, error))
    assert not wrong, "\n".join(map(str, wrong))
    assert count > 200
