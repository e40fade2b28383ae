"""Programs in the tests' image that busybox lacks: those need the C library's resolver, or UDP."""

import pathlib
import re
import subprocess

import images

PERL = "/usr/bin/perl"  # of Debian's perl-base, which is always there
SCRIPTS = {
    # fetch HOST PORT: the last line of a page; tries for a while.
    "fetch": r"""my ($name, $port) = @ARGV;
for (1 .. 20) {
  my $address = gethostbyname($name);
  socket(my $server, 2, 1, 0) or die "socket: $!\n";
  if ($address && connect($server, pack("S n a4 x8", 2, $port, $address))) {
    syswrite($server, "GET / HTTP/1.0\r\n\r\n");
    my @lines = <$server>;
    print $lines[-1];
    exit 0;
  }
  sleep 1;
}
die "cannot reach $name\n";
""",
    # echo-udp PORT: sends back what it gets.
    "echo-udp": r"""$| = 1;
socket(my $server, 2, 2, 0) or die "socket: $!\n";
bind($server, pack("S n a4 x8", 2, $ARGV[0], "\0" x 4)) or die "bind: $!\n";
print "ready\n";
while (my $from = recv($server, my $data, 1000, 0)) { send($server, $data, 0, $from) }
""",
}


def layer():
    """An image layer with Perl, its libraries and the scripts."""
    listed = subprocess.run(["ldd", PERL], check=True, capture_output=True, text=True, timeout=30)
    libraries = re.findall(r"(/\S+) \(0x", listed.stdout)
    found = [(images.member(path.lstrip("/"), mode=0o755), pathlib.Path(path).read_bytes())
             for path in (PERL, *libraries)]
    found += [(images.member("bin/" + name, mode=0o755), f"#!{PERL}\n{text}".encode())
              for name, text in SCRIPTS.items()]
    return images.layer(found)
