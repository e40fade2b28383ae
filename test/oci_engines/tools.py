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
    # hold PORT: takes it at every address, for UDP and TCP.
    "hold": r"""$| = 1;
for my $type (2, 1) {
  socket($held[$type], 2, $type, 0) or die "socket: $!\n";
  bind($held[$type], pack("S n a4 x8", 2, $ARGV[0], "\0" x 4)) or die "bind: $!\n";
}
listen($held[1], 1) or die "listen: $!\n";
print "held\n";
sleep 1000;
""",
    # ask udp|tcp|connected NAME: of the first name server; the port that answers, the result's
    # code, the address.
    "ask": r"""my ($how, $name) = @ARGV;
open(my $file, "<", "/etc/resolv.conf") or die "resolv.conf: $!\n";
my ($server) = map { /^nameserver ([0-9.]+)/ ? $1 : () } <$file>;
my $to = pack("S n C4 x8", 2, 53, split(/\./, $server));
my $query = pack("n6", 7, 0x100, 1, 0, 0, 0) .
  join("", map { pack("C/a", $_) } split(/\./, $name)) . pack("C n n", 0, 1, 1);
socket(my $socket, 2, $how eq "tcp" ? 1 : 2, 0) or die "socket: $!\n";
alarm(20);
my ($from, $answer);
if ($how eq "udp") {
  send($socket, $query, 0, $to) or die "send: $!\n";
  $from = recv($socket, $answer, 4096, 0);
} else {
  connect($socket, $to) or die "connect: $!\n";
  $from = getpeername($socket);
  syswrite($socket, $how eq "tcp" ? pack("n/a", $query) : $query);
  if ($how eq "tcp") {
    read($socket, my $length, 2);
    read($socket, $answer, unpack("n", $length));
  } else {
    sysread($socket, $answer, 4096);
  }
}
print join(" ", (unpack("S n", $from))[1], ord(substr($answer, 3)) & 15,
           join(".", unpack("C4", substr($answer, -4)))), "\n";
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
