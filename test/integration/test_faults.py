"""What goes wrong: each fault gives one clear line, a non-zero exit, and leaves nothing behind.

The fixture `host` fails a test that leaves a process, mount, control group, socket or file.
"""

import os
import shutil
import signal
import subprocess
import time

import images
import pytest
from host import PATIENCE, eventually

FOREVER = "echo ready; while :; do sleep 0.1; done"


def fake(host, script):
    """A program in QEMU's place."""
    path = host.folder / "fake-qemu"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path)


def running(host, busybox, *options):
    """A `bulkhead run` in the foreground whose command is known to run."""
    process = host.start("run", "--rm", *options, busybox, "sh", "-c", FOREVER)
    line = process.stdout.readline()
    assert line == b"ready\n", process.stderr.read()
    return process


def ending(process, seconds=PATIENCE):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err.decode(errors="replace")


def test_qemu_missing(host, busybox):
    host.configure(qemu="/nonexistent/qemu")
    host.run(busybox, "true").fails("/nonexistent/qemu")


def test_kernel_missing(host, busybox):
    host.configure(kernel="/nonexistent/vmlinux")
    host.run(busybox, "true").fails("/nonexistent/vmlinux")


def test_guest_image_missing(host, busybox):
    host.configure(image="/nonexistent/guest.img")
    host.run(busybox, "true").fails("/nonexistent/guest.img")


def test_kernel_that_is_none(host, busybox):
    path = host.folder / "vmlinux"
    path.write_bytes(b"not a kernel" * 1000)
    host.configure(kernel=str(path), boot_timeout=10)
    host.run(busybox, "true").fails()


def test_qemu_dies_at_start(host, busybox):
    host.configure(qemu=fake(host, 'echo "fake: no such machine" >&2; exit 1\n'))
    host.run(busybox, "true").fails("no such machine")


def test_qemu_hangs_at_start(host, busybox):
    host.configure(qemu=fake(host, "exec sleep 600\n"), boot_timeout=3)
    start = time.monotonic()
    host.run(busybox, "true").fails()
    assert time.monotonic() - start < 3 + PATIENCE / 2


def test_guest_panics(host, busybox):
    host.configure(kernel_parameters="rdinit=/nonexistent")
    host.run(busybox, "true").fails("panic")


def test_guest_hangs_at_boot(host, busybox):
    """A process 1 that is not our agent and never ends: no answer, no panic, no exit."""
    host.configure(image=str(hanging_image(host)), boot_timeout=5)
    start = time.monotonic()
    host.run(busybox, "true").fails()
    assert time.monotonic() - start < 5 + PATIENCE / 2


def hanging_image(host):
    """An initramfs whose process 1 only sleeps."""
    root = host.folder / "hang"
    (root / "bin").mkdir(parents=True)
    shutil.copy(images.BUSYBOX, root / "bin" / "busybox")
    (root / "init").write_text("#!/bin/busybox sh\nwhile :; do /bin/busybox sleep 1000; done\n")
    (root / "init").chmod(0o755)
    image = host.folder / "hang.img"
    with open(image, "wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, stdout=out, check=True,
                       input=b"bin\nbin/busybox\ninit\n", timeout=30)
    return image


def test_no_memory_for_the_vm(host, busybox):
    host.run("-m", "9999g", busybox, "true").fails("memory")


def test_disk_full(host, busybox):
    host.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "full", host.data], check=True,
                   timeout=10)
    try:
        host.run(busybox, "true").fails("no space")
    finally:
        subprocess.run(["umount", host.data], check=True, timeout=10)


def test_state_folder_that_cannot_be_written(host, busybox):
    host.state.write_text("a file, not a folder")
    host.run(busybox, "true").fails(str(host.state))


@pytest.mark.parametrize("command", [["run", "--rm", "IMAGE", "echo", "hello"], ["version"],
                                     ["list"], ["check"]])
def test_stdout_full(host, busybox, command):
    with open("/dev/full", "wb") as full:
        arguments = [busybox if word == "IMAGE" else word for word in command]
        told = host(*arguments, stdout=full)
    assert told.code != 0 or command == ["list"], str(told)
    assert told.err.strip() or command == ["list"], str(told)


def test_stdout_closed_by_its_reader(host, busybox):
    """`bulkhead run ... yes | head -n 1` ends, as it does without a VM in between."""
    process = host.start("run", "--rm", busybox, "yes")
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(PATIENCE) != 0
    process.stderr.close()


def test_stdout_closed_from_the_start(host, busybox):
    told = host("run", "--rm", busybox, "echo", "hello", stdout=None,
                preexec_fn=lambda: os.close(1))
    assert told.code != 0 and told.err.strip(), str(told)


def test_volume_source_missing(host, busybox):
    told = host.run("-v", "/nonexistent/folder:/x", busybox, "true")
    assert told.code == 125 and "/nonexistent/folder" in told.error, str(told)


def test_user_or_folder_that_does_not_exist(host, busybox):
    told = host.run("-u", "nobody-here", busybox, "true")
    assert told.code in (125, 126) and "nobody-here" in told.error, str(told)
    told = host.run("-w", "/etc/passwd", busybox, "true")
    assert told.code in (125, 126, 127) and "/etc/passwd" in told.error, str(told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_starts(host, busybox, number):
    """Before there is a container to pass it on to, a signal ends the start."""
    host.configure(qemu=fake(host, "exec sleep 600\n"), boot_timeout=100)
    process = host.start("run", "--rm", busybox, "true")
    eventually(lambda: any("sleep" in p.command for p in host.new_processes()), what="the start")
    process.send_signal(number)
    code, _, _ = ending(process, 20)
    assert code != 0


def test_kill_9_of_the_command_while_it_starts(host, busybox):
    host.configure(qemu=fake(host, "exec sleep 600\n"), boot_timeout=100)
    process = host.start("run", "--rm", busybox, "true")
    eventually(lambda: any("sleep" in p.command for p in host.new_processes()), what="the start")
    process.kill()
    ending(process)
    host.nothing_left(20)


def test_kill_9_of_the_command(host, busybox):
    process = running(host, busybox)
    process.kill()
    ending(process)
    host.nothing_left(20)


def test_kill_9_of_qemu(host, busybox):
    process = running(host, busybox)
    os.kill(host.qemu().pid, signal.SIGKILL)
    code, _, err = ending(process, 20)
    assert code != 0 and "signal 9" in err.lower().replace("sigkill", "signal 9"), err
    assert len(err.strip().splitlines()) == 1, err


def test_kill_9_of_the_daemon(host, busybox):
    """Its VM and its helpers die with it; the next command clears its records away."""
    process = running(host, busybox, "--name", "orphaned")
    by_pid = {found.pid: found for found in host.new_processes()}
    daemon = by_pid[host.qemu().parent]
    assert daemon.pid != process.pid, "the VM's parent is the daemon"
    os.kill(daemon.pid, signal.SIGKILL)
    code, _, err = ending(process, 20)
    assert code != 0 and err.strip(), err
    eventually(lambda: not host.new_processes(), 20, "the end of the VM")
    host("rm", "-f", "orphaned")
    host("list").ok()
    host.nothing_left()


@pytest.mark.parametrize("attempt", range(4))
def test_out_of_memory_with_slow_files(host, busybox, attempt):
    """A process that is killed while it pages in its program, with the answers under way."""
    process = host.start("run", "--rm", "-m", "16m", busybox, "sh", "-c",
                         "echo ready; exec tail /dev/zero")
    assert process.stdout.readline() == b"ready\n"
    helpers = [found for found in host.new_processes() if "virtiofsd" in found.name]
    try:
        while process.poll() is None:
            for signal_, seconds in ((signal.SIGSTOP, 0.02), (signal.SIGCONT, 0.002)):
                for helper in helpers:
                    os.kill(helper.pid, signal_)
                time.sleep(seconds)
    except ProcessLookupError:
        pass
    code, _, err = ending(process)
    assert code == 137 and "memory" in err, err


def test_kill_9_of_virtiofsd(host, busybox):
    process = running(host, busybox)
    helpers = [found for found in host.new_processes() if "virtiofsd" in found.name]
    if not helpers:
        process.terminate()
        process.kill()
        ending(process)
        pytest.skip("this host shares by 9p: there is no virtiofsd")
    for helper in helpers:
        os.kill(helper.pid, signal.SIGKILL)
    process.terminate()  # whatever it does without its files, it ends when it is asked to
    try:
        ending(process, 30)
    except subprocess.TimeoutExpired:
        process.kill()
        ending(process)
        raise


def test_stopped_qemu_does_not_hang_the_end(host, busybox):
    """A VM that does not answer any more is ended all the same."""
    host("run", "-d", "--rm", "--name", "stuck", busybox, "sleep", "100000").ok()
    os.kill(host.qemu().pid, signal.SIGSTOP)
    told = host("rm", "-f", "stuck", timeout=PATIENCE * 2)
    assert told.code == 0, str(told)
    host.nothing_left(20)


def test_guest_runs_out_of_memory_altogether(host, busybox):
    """Not the container's limit but the whole guest: the command is killed, not the host's side."""
    told = host.run("-m", "256m", "--tmpfs", "/big:size=2g", busybox, "sh", "-c",
                    "cat /dev/zero > /big/file")
    assert told.code != 0, str(told)
