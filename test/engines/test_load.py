"""Many at once, and clients that race or hang: nothing is lost, doubled, held up or left."""

import os
import subprocess
import threading
import time

import grpc
import pytest
from api import TASKS, Api, create_task
from containerd import IMAGE, Events
from host import PATIENCE, eventually

PARALLEL = int(os.environ.get("BULKHEAD_TEST_PARALLEL", "10"))
ROUNDS = 5
EXECS = 30
QUICK = 15  # seconds for a call that nobody may hold up, on a busy machine
SLEEP = ("sleep", "100000")
FINISHED = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)


def at_once(*calls):
    """Runs the calls in threads that begin together; each one's value, or its error."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index, call):
        gate.wait()
        try:
            results[index] = call()
        except grpc.RpcError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a call hangs"
    return results


def test_pods_at_once(engine, name):
    """Every event of every pod, in order, each once."""
    names = [f"{name}-{number}" for number in range(PARALLEL)]
    patience = PATIENCE * (1 + PARALLEL / 10)
    with Events(engine) as events:
        started = [engine.start(*engine.words(each, "sh", "-c", f"echo {each}; exit {number % 200}",
                                              options=["--rm"]))
                   for number, each in enumerate(names)]
        for number, (each, process) in enumerate(zip(names, started)):
            out, err = process.communicate(timeout=patience)
            assert (process.returncode, out) == (number % 200, each.encode() + b"\n"), err
        for number, each in enumerate(names):
            seen = events.wait(each, "delete")
            assert [topic for topic, _ in seen] == ["create", "start", "exit", "delete"]
            assert [payload.get("exit_status", 0) for _, payload in seen[2:]] == [number % 200] * 2


def test_execs_at_once(engine, name):
    with Events(engine) as events, engine.detached(name, *SLEEP):
        started = [engine.start("task", "exec", "--exec-id", f"e{number}", name, "sh", "-c",
                                f"cat; echo {number}; exit {number}", stdin=subprocess.PIPE)
                   for number in range(EXECS)]
        for number, process in enumerate(started):
            out, err = process.communicate(b"in\n", timeout=PATIENCE)
            assert (process.returncode, out) == (number, b"in\n%d\n" % number), err
        told = eventually(lambda: len(found := [
            (payload["id"], payload.get("exit_status", 0)) for topic, payload in events.of(name)
            if topic == "exit"]) >= EXECS and found, what="all ends")
        assert sorted(told) == sorted((f"e{number}", number) for number in range(EXECS))


def test_client_that_does_not_read(engine, name):
    """It holds up its own process, and no call about that or another one."""
    with engine.detached(name, *SLEEP):
        stuck = engine.start("task", "exec", "--exec-id", "stuck", name, "cat", "/dev/zero")
        assert stuck.stdout.read(1 << 20)
        time.sleep(2)  # all buffers fill up

        def quick(*words):
            return engine(*words, timeout=QUICK).ok()

        quick("task", "ls")
        quick("task", "metrics", name)
        quick("task", "ps", name)
        assert engine.exec(name, "echo", "well", timeout=QUICK).ok().out == b"well\n"
        quick("task", "kill", "-s", "SIGKILL", "--exec-id", "stuck", name)
        assert engine.exec(name, "echo", "well", timeout=QUICK).ok().out == b"well\n"
        # Its end does not wait for the reader, and neither does the container's.
        quick("task", "kill", "-s", "SIGKILL", name)
        eventually(lambda: engine.status(name) == "STOPPED", QUICK, "the end")
        assert engine.reap(name) == 137
        stuck.communicate(timeout=PATIENCE)


@pytest.mark.own_shim("what runc's shim answers")
def test_two_clients_race_to_kill_and_delete(engine, name):
    tasks = Api(engine, TASKS)

    def end(each):
        try:
            tasks.Kill(container_id=each, signal=9)
        except grpc.RpcError as error:
            assert error.code() in FINISHED, error
        while True:
            try:
                return tasks.Delete(container_id=each).exit_status
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                    raise
            time.sleep(0.002)

    with Events(engine) as events:
        for number in range(ROUNDS):
            each = f"{name}-{number}"
            with engine.detached(each, *SLEEP):
                results = at_once(*[lambda: end(each)] * 2)
                # Of two deletes at once containerd 2 may end the shim's connection below the first,
                # as soon as the second is told that the task is gone: runc's as well.
                assert 137 in results or engine.major >= 2, results
                assert all(found == 137 or "not found" in found.details() or
                           "ttrpc: closed" in found.details() for found in results), results
                seen = events.wait(each, "delete")
        time.sleep(0.5)  # for what would be too many
        for number in range(ROUNDS):
            seen = [topic for topic, _ in events.of(f"{name}-{number}")]
            assert seen == ["create", "start", "exit", "delete"], seen


@pytest.mark.own_shim("what runc's shim answers")
def test_delete_while_an_exec_runs(engine, name):
    with Events(engine) as events, engine.detached(name, *SLEEP):
        process = engine.start("task", "exec", "--exec-id", "extra", name, "sh", "-c",
                               "trap '' TERM INT; echo ready; while :; do sleep 0.1; done")
        assert process.stdout.readline() == b"ready\n"
        tasks = Api(engine, TASKS)
        results = at_once(lambda: tasks.Delete(container_id=name))
        assert results[0].code() == grpc.StatusCode.FAILED_PRECONDITION, results
        engine("task", "kill", "-s", "SIGKILL", name).ok()
        eventually(lambda: engine.status(name) == "STOPPED", what="its end")
        assert engine.reap(name) == 137
        process.communicate(timeout=PATIENCE)
        assert process.returncode not in (0, None)
        events.wait(name, "delete")

        def ends():
            return [payload["id"] for topic, payload in events.of(name) if topic == "exit"]
        eventually(lambda: len(ends()) > 1, what="both ends")
        assert sorted(ends()) == sorted([name, "extra"])


@pytest.mark.own_shim("ctr create has no --runc-binary")
def test_duplicates_of_a_create(engine, name):
    engine("container", "create", *engine.chosen, IMAGE, name, *SLEEP).ok()
    results = at_once(*[lambda: create_task(engine, name)] * 4)
    made = [each for each in results if not isinstance(each, grpc.RpcError)]
    assert len(made) == 1, results
    # containerd itself refuses most of them, for a folder that is there already.
    assert all("exists" in each.details() for each in results if each not in made), results
    tasks = Api(engine, TASKS)
    results = at_once(*[lambda: tasks.Start(container_id=name).pid] * 4)
    assert results.count(made[0].pid) == 1, results
    assert engine.exec(name, "echo", "well").ok().out == b"well\n"
    engine.remove(name)
