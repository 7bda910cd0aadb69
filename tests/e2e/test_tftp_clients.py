#!/usr/bin/env python3
"""tftp-hpa's client, atftp, curl and busybox fetch files; each copy is compared byte by byte.

Then what must not work: files that are not there, ways out of the root, and writing.
"""

import hashlib
import os
import random
import socket

import lab as laboratory
from lab import Lab
from server import Server, configuration
from suite import Suite

TAKES_SECONDS = 21

HOST = "10.77.0.1"
_BIG = 40 << 20  # more than 65,535 blocks of 512 bytes: the block number wraps


def contents():
    """Sizes around the edges of a block, and a text for netascii."""
    seeded = random.Random(69)
    files = {"empty": b"", "one": b"x", "exact": seeded.randbytes(4 * 512),
             "edge": seeded.randbytes(4 * 512 - 1), "image": seeded.randbytes(3_000_000),
             "deep/in/a/tree": seeded.randbytes(10_000),
             "lines": b"unix line\nbare return \r in a line\n\n" * 200}
    files["big"] = files["image"] * 14
    files["big"] = files["big"][:_BIG]
    return files


class Getter:
    """One client program: how it fetches a name into a file."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def get(self, lab, namespace, remote, seconds=60):
        """(status, output, bytes or None) of one get."""
        local = lab.path("got")
        if os.path.exists(local):
            os.unlink(local)
        status, output = lab.run(namespace, self.command(remote, local), seconds)
        data = None
        if os.path.exists(local):
            with open(local, "rb") as got:
                data = got.read()
        return status, output, data


def getters(host=HOST):
    def atftp(*options):
        extra = [word for option in options for word in ("--option", option)]
        return lambda remote, local: ["atftp", *extra, "--get", "-r", remote, "-l", local, host]

    def curl(*options):
        return lambda remote, local: ["curl", "-sS", "--path-as-is", *options, "-o", local,
                                      f"tftp://{host}//{remote}"]

    return [
        Getter("tftp-hpa", lambda remote, local:
               ["tftp", "-m", "octet", host, "-c", "get", remote, local]),
        Getter("atftp", atftp()),
        Getter("atftp, blksize 1428", atftp("blksize 1428")),
        Getter("atftp, blksize 8192, windowsize 8", atftp("blksize 8192", "windowsize 8")),
        Getter("atftp, blksize 1468, windowsize 64", atftp("blksize 1468", "windowsize 64")),
        Getter("curl, no options", curl("--tftp-no-options")),
        Getter("curl, blksize 1428", curl("--tftp-blksize", "1428")),
        Getter("busybox", lambda remote, local:
               ["busybox", "tftp", "-g", "-b", "1200", "-r", remote, "-l", local, host]),
    ]


def digest(data):
    return None if data is None else (len(data), hashlib.sha256(data).hexdigest()[:16])


def fetches(suite, lab, namespace, files):
    for getter in getters():
        with suite.step(getter.name):
            for name in ("empty", "one", "exact", "edge", "image", "deep/in/a/tree"):
                if name == "empty" and getter.name.startswith("curl"):
                    continue  # curl makes no file of no bytes
                status, output, data = getter.get(lab, namespace, name)
                suite.check(f"{name}, {len(files[name])} bytes", digest(data) ==
                            digest(files[name]) and status == 0, f"exit {status}: {output}")
    small = [g for g in getters() if g.name in (
        "tftp-hpa", "atftp, blksize 1468, windowsize 64", "curl, no options")]
    for getter in small:
        with suite.step(f"{getter.name}, a file of 40 MiB"):
            status, output, data = getter.get(lab, namespace, "big", seconds=120)
            suite.equal("all of it, past the wrap of the block number where blocks are small",
                        digest(data), digest(files["big"]))


def netascii(suite, lab, namespace, files):
    got = lab.path("text")
    status, output = lab.run(namespace, ["tftp", "-m", "netascii", HOST, "-c", "get", "lines", got])
    with open(got, "rb") as copy:
        suite.equal("tftp-hpa gets the text back as it was", digest(copy.read()),
                    digest(files["lines"]))
    wire_form = files["lines"].replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    suite.equal("on the wire it has CR LF and CR NUL (RFC 764)",
                digest(raw_get(lab, namespace, b"\0\1lines\0netascii\0")), digest(wire_form))


def ipv6(suite, lab, namespace, server, files):
    """The same files over IPv6, from a global and from a link-local address."""
    laboratory.sh(f"ip -n {lab.srv} addr add fd77::1/64 dev eth0 nodad")
    laboratory.sh(f"ip -n {namespace} addr add fd77::9/64 dev eth0 nodad")
    for where, local in ((lab.srv, "fe80::77"), (namespace, "fe80::79")):
        laboratory.sh(f"ip -n {where} addr add {local}/64 dev eth0 nodad")
    got = lab.path("got6")
    for name, command in (
            ("curl", ["curl", "-sS", "-o", got, "tftp://[fd77::1]//image"]),
            ("curl, link-local", ["curl", "-sS", "-o", got, "tftp://[fe80::77%25eth0]//image"]),
            ("atftp, windowsize 16", ["atftp", "--option", "windowsize 16",
                                      "--option", "blksize 1428", "--get",
                                      "-r", "image", "-l", got, "fd77::1"])):
        if os.path.exists(got):
            os.unlink(got)
        status, output = lab.run(namespace, command, 60)
        data = open(got, "rb").read() if os.path.exists(got) else None
        suite.check(name, digest(data) == digest(files["image"]) and status == 0,
                    f"exit {status}: {output}")
    named = laboratory.wait_until(lambda: "ip=fd77::9" in server.log(200), 5)
    suite.check("the log names the client", named, server.log())


def raw_get(lab, namespace, request):
    """A lockstep client: the data as it stood on the wire, or the ERROR packet."""
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.sendto(request, (HOST, 69))
    data, expected = b"", 1
    while True:
        packet, sender = sock.recvfrom(65536)
        if packet[:2] != b"\0\3":
            sock.close()
            return packet
        if int.from_bytes(packet[2:4], "big") == expected:
            data += packet[4:]
            expected += 1
        sock.sendto(b"\0\4" + packet[2:4], sender)
        if len(packet) < 516:
            sock.close()
            return data


def parallel(suite, lab, namespace, files):
    copies = [lab.path(f"copy{number}") for number in range(24)]
    running = [lab.start(namespace, ["curl", "-sS", "--tftp-blksize", "1428", "-o", copy,
                                f"tftp://{HOST}//image"], f"curl{number}")
               for number, copy in enumerate(copies)]
    statuses = [process.wait(60) for process in running]
    suite.equal("24 clients at once all end well", statuses, [0] * len(statuses))
    same = 0
    for copy in copies:
        with open(copy, "rb") as got:
            same += got.read() == files["image"]
    suite.equal("and all have the same bytes", same, len(copies))


def refusals(suite, lab, namespace, server):
    secret = b"this lies outside the root\n"
    lab.write("secret", secret)
    os.symlink("../secret", lab.path("tftp/leaving"))
    os.symlink(lab.path("secret"), lab.path("tftp/absolute"))
    os.symlink("one", lab.path("tftp/staying"))
    hpa, curl = getters()[0], getters()[5]
    status, output, data = hpa.get(lab, namespace, "nowhere")
    suite.check("tftp-hpa is told that a file is missing", "Error code 1" in output, output)
    suite.check("which is no warning in the log", laboratory.wait_until(lambda: any(
        "INFO" in line and "TFTP missing" in line and "nowhere" in line
        for line in server.log().splitlines()), 3), server.log())
    status, output, data = curl.get(lab, namespace, "nowhere")
    suite.equal("curl: exit status for a missing file", status, 68)
    for name in ("../secret", "deep/../../secret", "leaving", "absolute", "/../secret",
                 "..\\secret", lab.path("secret"), "/etc/passwd", "deep", "."):
        reply = raw_get(lab, namespace, b"\0\1" + name.encode() + b"\0octet\0")
        suite.check(f"refused with an ERROR packet: {name.replace(lab.directory, 'LAB')}",
                    reply[:2] == b"\0\5", reply[:40])
    for name in ("deep", "deep/", "deep/in/..", "/", "."):
        reply = raw_get(lab, namespace, b"\0\1" + name.encode() + b"\0octet\0")
        suite.equal(f"a directory is no file, ERROR 1: {name}", reply[:4], b"\0\5\0\1")
    reply = raw_get(lab, namespace, b"\0\1one\0octet\0")
    suite.equal("a plain name still works", reply, b"x")
    reply = raw_get(lab, namespace, b"\0\1/staying\0octet\0")
    suite.equal("a link inside the root works, and a leading slash means the root", reply, b"x")
    reply = raw_get(lab, namespace, b"\0\1one\0mail\0")
    suite.equal("mail mode is refused", reply[:2], b"\0\5")
    lab.write("mine", b"not welcome")
    status, output = lab.run(namespace, ["tftp", "-m", "octet", HOST, "-c", "put", lab.path("mine"),
                                    "uploaded"])
    suite.check("writing is off", not os.path.exists(lab.path("tftp/uploaded")) and
                "rror" in output, output)


def broadcasts(suite, lab, namespace):
    """Requests to broadcast addresses, which every server of a network would answer."""
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.settimeout(1)
    for address in ("255.255.255.255", "10.77.255.255"):
        sock.sendto(b"\0\1one\0octet\0", (address, 69))
        try:
            suite.check(f"no answer to {address}", False, sock.recvfrom(600))
        except TimeoutError:
            suite.check(f"no answer to {address}", True)
    sock.close()
    _, page = lab.run(lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
    lines = [line for line in page.splitlines() if "request was broadcast" in line]
    # A broadcast reaches the socket of every shard.
    suite.check("they are counted", lines and all(line.endswith(" 2") for line in lines), lines)


def names(suite, lab, namespace, server, files):
    """Names as firmware writes them, with map rules, and whatever the case of their letters."""
    tree = files["deep/in/a/tree"]
    hpa, atftp, curl, busybox = (getters()[at] for at in (0, 1, 5, 7))
    for getter in (hpa, atftp, curl, busybox):
        status, output, data = getter.get(lab, namespace, "deep/in/../in/a/../a/tree")
        suite.check(f"{getter.name}: `..` inside the root", data == tree and status == 0, output)
    reply = raw_get(lab, namespace, b"\0\1one\0octet\0tsize\x000\0\xff\xffpadding")
    suite.equal("what follows the last NUL is ignored", reply, b"\0\6tsize\x001\0")
    lab.write("tftp/Boot/BCD", b"upper")
    lab.write("tftp/boot/boot.sdi", b"lower")
    lab.write("tftp/caf\udce9/menu", b"latin 1")
    map_file = lab.path("tftp.map")
    with open(map_file, "wb") as rules:
        rules.write(b"# apr\xe8s\nr ^coffee/ caf\xe9/\nr ^leave/ ../\n")
    server.configure(configuration(server.state, tftp=lab.path("tftp"), after=(
        f'case-insensitive = true\nmap-file = "{map_file}"\n')))
    suite.equal("reload", server.tool("reload")[0], 0)
    for name, content in (("boot/bcd", b"upper"), ("BOOT/BCD", b"upper"),
                          ("Boot/Boot.SDI", b"lower"), ("coffee/MENU", b"latin 1"),
                          ("\\BOOT\\..\\boot\\bcd", b"upper")):
        suite.equal(f"without regard to case: {name}",
                    raw_get(lab, namespace, b"\0\1" + name.encode() + b"\0octet\0"), content)
    for name in ("leave/secret", "../SECRET", "boot/../../secret", "leave/TFTP/one"):
        reply = raw_get(lab, namespace, b"\0\1" + name.encode() + b"\0octet\0")
        suite.equal(f"and never out of the root: {name}", reply[:4], b"\0\5\0\2")


def limits(suite, lab, server, files):
    """Over the limit for one address requests are not answered, and every client asks again."""
    namespace = lab.namespace("limited")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add 10.77.9.2/16 dev eth0")
    server.configure(configuration(server.state, tftp=lab.path("tftp"),
                                   after="max-transfers-per-client = 2\n"))
    suite.equal("reload", server.tool("reload")[0], 0)
    held = []
    for _ in range(2):
        with laboratory.inside(namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        sock.sendto(b"\0\1image\0octet\0", (HOST, 69))
        held.append((sock, sock.recvfrom(600)[1]))
    hpa, atftp, curl, busybox = (getters()[at] for at in (0, 1, 6, 7))
    running = []
    for getter in (hpa, atftp, curl, busybox):
        copy = lab.path(f"limited-{getter.name[:4]}")
        running.append((getter, copy, lab.start(
            namespace, getter.command("edge", copy), f"limited-{getter.name[:4]}")))

    def unanswered():
        _, page = lab.run(lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
        return sum(int(line.split()[-1]) for line in page.splitlines()
                   if "too many transfers for this client" in line)

    suite.check("all four are over the limit", laboratory.wait_until(lambda: unanswered() >= 4, 10),
                unanswered())
    suite.equal("and none gives up", [each.running() for _, _, each in running], [True] * 4)
    for sock, sender in held:
        sock.sendto(b"\0\5\0\0done\0", sender)
        sock.close()
    for getter, copy, process in running:
        status = process.wait(60)
        data = open(copy, "rb").read() if os.path.exists(copy) else None
        suite.check(f"{getter.name} gets its file as soon as there is room",
                    status == 0 and data == files["edge"], f"exit {status}: {process.output()}")
    server.configure(configuration(server.state, tftp=lab.path("tftp")))
    suite.equal("reload", server.tool("reload")[0], 0)
    suite.check("the log tells of the limit, once in a while", 1 <= sum(
        "too many transfers for this client" in line for line in server.log(60).splitlines()) <= 4,
                server.log(60))


def strangers(suite, lab, namespace):
    """Packets that fit no transfer."""
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(2)
    for junk in (b"", b"\0", b"\0\1", b"\0\1name", b"\0\1\0octet\0", b"\0\x09x\0octet\0",
                 b"\0\1one\0octet\0blksize\0", b"\0\1one\0octet\0blksize\0-1\0",
                 b"\xff" * 1400):
        sock.sendto(junk, (HOST, 69))
    sock.sendto(b"\0\1exact\0octet\0", (HOST, 69))
    seen = []
    while not any(packet[:4] == b"\0\3\0\1" and len(packet) == 516 for packet, _ in seen):
        seen.append(sock.recvfrom(2048))
    packet, server = seen[-1]
    suite.check("after malformed requests a good one is answered", packet[:4] == b"\0\3\0\1")
    with laboratory.inside(namespace):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.settimeout(2)
    other.sendto(b"\0\4\0\1", server)
    reply = other.recv(1024)
    suite.equal("an ACK from an unknown port: ERROR 5, unknown transfer ID", reply[:4],
                b"\0\5\0\5")
    sock.sendto(b"\0\4\0\1", server)
    while packet[:4] != b"\0\3\0\2":
        packet = sock.recv(2048)
    suite.check("and the transfer it tried to enter goes on", True)


def main():
    suite = Suite("TFTP clients")
    lab = Lab()
    os.chmod(lab.directory, 0o755)
    files = contents()
    for name, data in files.items():
        lab.write(f"tftp/{name}", data)
    namespace = lab.namespace("clients")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add 10.77.9.1/16 dev eth0")
    server = Server(lab, tftp=lab.path("tftp"))
    suite.explain_with(server.log)
    with suite.step("the server starts"):
        server.start()
    fetches(suite, lab, namespace, files)
    with suite.step("netascii"):
        netascii(suite, lab, namespace, files)
    with suite.step("IPv6"):
        ipv6(suite, lab, namespace, server, files)
    with suite.step("many at once"):
        parallel(suite, lab, namespace, files)
    with suite.step("what is refused"):
        refusals(suite, lab, namespace, server)
    with suite.step("broadcasts"):
        broadcasts(suite, lab, namespace)
    with suite.step("names"):
        names(suite, lab, namespace, server, files)
    with suite.step("limits"):
        limits(suite, lab, server, files)
    with suite.step("what fits no transfer"):
        strangers(suite, lab, namespace)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
