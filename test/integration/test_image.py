"""A real distribution: Debian, as a folder and as a `docker save` archive."""

import images
from host import Host

SCRIPT = """
use strict; use warnings;
open(my $file, "<", "/etc/os-release") or die;
my %release = map { /^(\\w+)="?([^"\\n]*)/ ? ($1 => $2) : () } <$file>;
my $sum = 0; $sum += $_ for 1 .. 1000;
my $child = `id -un`; chomp $child;
printf "%s %s %d %s\\n", $release{ID}, $release{VERSION_CODENAME}, $sum, $child;
my @owners = map { (stat $_)[5] } ("/etc/shadow");
printf "%s\\n", (getgrgid $owners[0])[0];
exit 3;
"""
EXPECTED = b"debian bookworm 500500 root\nshadow\n"


def test_debian_from_a_folder(shared, debian):
    told = shared.run("-i", debian, "perl", "-", input=SCRIPT.encode(), timeout=300)
    assert told.ok(3).out == EXPECTED, str(told)


def test_debian_from_an_archive(shared, debian, tmp_path):
    image = images.docker_save(tmp_path / "debian.tar", [images.layer_of_folder(debian)],
                               {"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
    before = images.fingerprint(image)
    told = shared.run("-i", image, "perl", "-", input=SCRIPT.encode(), timeout=300)
    assert told.ok(3).out == EXPECTED, str(told)
    # dpkg writes, renames and locks: the writable layer has to be a real file system.
    told = shared.shell(image, r"""
        set -e; mkdir -p /p/DEBIAN
        cd /p/DEBIAN; printf 'Package: tiny\nVersion: 1\nArchitecture: all\n' > control
        printf 'Maintainer: x <x@x>\nDescription: x\n' >> control
        dpkg-deb -b /p /tiny.deb > /dev/null; dpkg -i /tiny.deb > /dev/null; dpkg-query -W tiny
        stat -c %a /usr/bin/passwd; useradd -m bob; su bob -c id""", timeout=300).ok()
    assert told.lines[0].split() == ["tiny", "1"] and told.lines[1] == "4755", str(told)
    assert "(bob)" in told.lines[2], str(told)
    assert images.fingerprint(image) == before


def test_layers_are_unpacked_once(shared, busybox):
    """A second start of the same image does not unpack it again."""
    shared.run(busybox, "true").ok()

    def layers():
        return sorted((path, path.stat().st_ctime_ns) for depth in ("*", "*/*")
                      for path in shared.data.glob(depth + "/sha256-*"))

    before = layers()
    shared.run(busybox, "true").ok()
    assert before and layers() == before


def test_shared_by_9p(rootfs, tmp_path):
    """Where there is no virtiofsd, QEMU's own 9p server shares the files."""
    host = Host(sharing={"transport": "9p"})
    try:
        told = host.shell(rootfs, "echo made > /volume/new; cat /volume/new; "
                                  "awk '$2 == \"/\" { print $3 }' /proc/mounts",
                          "-v", f"{tmp_path}:/volume").ok()
        assert told.lines == ["made", "9p"]
        assert (tmp_path / "new").read_text() == "made\n"
    finally:
        host.close()
