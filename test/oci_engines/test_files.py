"""Volumes and other mounts."""

import pytest
from engine import ALICE, IMAGE


def test_bind_mounts(engine, same, tmp_path):
    for folder in ("ro", "rw"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "there").write_text("from the host\n")
    told = engine.shell("cat /ro/there /mnt/rw/there; touch /ro/x 2>/dev/null || echo refused; "
                        "echo from the container > /mnt/rw/made; chown 1000:1000 /mnt/rw/made",
                        "-v", f"{tmp_path}/ro:/ro:ro", "-v", f"{tmp_path}/rw:/mnt/rw").ok()
    same("words", told.lines, ["from the host"] * 2 + ["refused"])
    made = tmp_path / "rw" / "made"
    same("made", (made.read_text(), made.stat().st_uid), ("from the container\n", 1000))


def test_bind_mount_of_a_file(engine, same, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    told = engine.shell("cat /etc/one; echo from the container > /etc/one; ls /etc/one",
                        "-v", f"{tmp_path}/file:/etc/one").ok()
    same("words", told.lines, ["from the host", "/etc/one"])
    same("written", (tmp_path / "file").read_text(), "from the container\n")


def test_changes_on_the_host(engine, same, name, tmp_path):
    """Both sides see what the other writes while the container runs."""
    with engine.script(name, "echo ready; exec sleep 1000", "-v", f"{tmp_path}:/both"):
        (tmp_path / "host").write_text("1\n")
        same("in the container", engine.exec(name, "cat", "/both/host").ok().text, "1\n")
        (tmp_path / "host").write_text("22\n")
        same("changed", engine.exec(name, "cat", "/both/host").ok().text, "22\n")
        engine.exec(name, "mv", "/both/host", "/both/moved").ok()
        same("on the host", [path.name for path in tmp_path.iterdir()], ["moved"])


def test_named_volume(engine, same, name):
    """It gets what the image has in its place, and keeps what is written."""
    with engine.made("volume", name):
        first = engine.shell("ls /home; echo kept > /home/kept", "-v", f"{name}:/home").ok()
        same("from the image", first.text, "alice\n")
        told = engine.run("-v", f"{name}:/other:ro", ALICE, "sh", "-c",
                          "cat /other/kept; touch /other/x 2>/dev/null || echo refused").ok()
        same("kept", told.lines, ["kept", "refused"])


def test_volumes_of_another(engine, same, name, tmp_path):
    with engine.detached(name, "-v", f"{tmp_path}:/shared", "-v", "/anonymous", IMAGE, "sh", "-c",
                         "echo one > /shared/one; echo two > /anonymous/two"):
        engine.ended(name)
        told = engine.shell("cat /shared/one /anonymous/two", "--volumes-from", name).ok()
        same("words", told.lines, ["one", "two"])


def test_tmpfs(engine, same):
    told = engine.shell("""
        mount | grep -c 'tmpfs on /scratch .*noexec'; stat -c %a /scratch
        dd if=/dev/zero of=/scratch/fill bs=1M count=20 2>/dev/null && echo fits
        dd if=/dev/zero of=/scratch/fill bs=1M count=2 2>/dev/null && echo this fits
        df -m /dev/shm | awk 'NR == 2 { print $2 }'""",
                        "--tmpfs", "/scratch:size=4m,mode=700,noexec", "--shm-size", "9m").ok()
    same("words", told.lines, ["1", "700", "this fits", "9"])


@pytest.mark.parametrize("form", ["mount", "volume"])
def test_place_that_does_not_fit(engine, same, tmp_path, form):
    """A file cannot go over a folder: a clear error, and nothing is left."""
    (tmp_path / "file").touch()
    option = (["-v", f"{tmp_path}/file:/work"] if form == "volume" else
              ["--mount", f"type=bind,src={tmp_path}/file,dst=/work"])
    told = engine.run(*option, IMAGE, "true")
    same("exit code", told.code)
    same("fails", told.code in (125, 126, 127), True)
    same("the place is named", "/work" in told.error, True)


def test_folder_that_is_a_file(engine, same):
    told = engine.run("-w", "/etc/passwd", IMAGE, "true")
    same("exit code", told.code)
    same("the place is named", told.code != 0 and "/etc/passwd" in told.error, True)


def test_owner_of_files(engine, same):
    """Owners, modes and links of the image are seen and can be changed."""
    told = engine.shell("stat -c '%u:%g %a' /home/alice /tmp; readlink /bin/cat; cd /work && "
                        "touch a && ln a b && ln -s a c && chown -h 7:8 c && chmod 4711 a && "
                        "mkfifo d && stat -c '%u:%g %a %h %F' a c d").ok()
    same("words", told.lines, ["1000:1000 755", "0:0 1777", "busybox",
                               "0:0 4711 2 regular empty file", "7:8 777 1 symbolic link",
                               "0:0 644 1 fifo"])
