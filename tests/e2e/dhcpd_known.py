"""What docs/DIFFERENCES.md has of what differs between this server and dhcpd."""

import re
from collections import defaultdict

from dhcpd_files import Block

INFORMS = ("inform", "inform-bound", "inform-source")
# What options of spaces travel in, and what sets those that may be too long for their length.
CARRIERS = {"option 43": r"vendor-option-space rack", "option 232": ""}
_LONG = r" rack\.label = .*binary-to-ascii\("
# Bytes of the fields.
LIMITS = {"file": 128, "sname": 64}


def is_known(sent, line, text, limits):
    """Whether docs/DIFFERENCES.md has it; the numbers are its."""
    here, theirs = (found and found[1] for found in sent.answers)
    field = line.split(":")[0]
    return any([
        # 3: options of a BOOTP reply that has no room for them, or has them in `file` and `sname`.
        sent.step == "bootp" and theirs is not None and theirs.overload
        and field.startswith("option") and "here nothing" in line,
        sent.step == "bootp" and field.startswith("option") and is_left_out(sent, field),
        # 5: options without room, and 10: more of them for INFORM.
        here and theirs and field.startswith("option") and is_without_room(sent, field),
        # 10: configured options in `filename` and `server-name`.
        sent.step in INFORMS and field in LIMITS and line.endswith("dhcpd  b''")
        and re.search(r"(filename|server-name) = .*config-option", text),
        # 11: offers that count for `lease limit`, and classes that `add` names.
        re.match("dhcpd answers (OFFER|ACK|BOOTP), and here does not", line)
        and limits.are_reached(sent),
        re.match("here answers (OFFER|ACK|BOOTP), and dhcpd does not", line) and sent.is_unbilled,
        # 13: the client identifier of a host entry.
        field == "option 61" and line.startswith("option 61: here nothing, dhcpd 69642d")
        and "option dhcp-client-identifier \"id-" in text,
        # 12: a reserved lease that is renewed at once.
        field == "option 51" and "select-infinite" in sent.client.steps[:sent.number]
        and "infinite-is-reserved on" in text,
        # 15: options of a space that are longer than their length can say.
        here and theirs and field in CARRIERS and is_too_long(here, theirs, field, text),
        # 8: names that do not fit.
        here and theirs and field in LIMITS and not getattr(here, field)
        and len(getattr(theirs, field)) == LIMITS[field],
        # 7: broadcasts to a BOOTP client with a reserved address.
        sent.step == "bootp" and line == f"to MAC: here nothing, dhcpd {sent.client.mac}",
        # 2: a REQUEST that names another server.
        sent.step == "select-other" and line == "dhcpd answers NAK, and here does not",
        sent.step == "select-other" and line == "dhcpd answers ACK, and here does not",
    ])


def is_without_room(sent, field):
    """Whether an option is missing in one of the replies, which has no room for it."""
    code = int(field.split()[1])
    (_, here), (_, theirs) = sent.answers
    lacks, has = (here, theirs) if code not in here.options else (theirs, here)
    room = 312 - 4
    if not (sent.step in INFORMS and lacks is theirs):
        room += sum(size for name, size in LIMITS.items() if not getattr(lacks, name))
    needed = sum(2 * (1 + len(value) // 256) + len(value)
                 for value in [*lacks.options.values(), has.options.get(code, b"")])
    # The end of each field, what dhcpd keeps for option 52, and what is split.
    return code not in lacks.options and needed + 40 > room


def is_too_long(here, theirs, field, text):
    """Whether dhcpd sends what is sent here, and in it what a length of one byte cannot say. It may
    have no room for so much, and then sends nothing."""
    if not all(re.search(needed, text) for needed in (_LONG, CARRIERS[field])):
        return False
    own, value = (answer.options.get(int(field.split()[1]), b"") for answer in (here, theirs))
    return not value or own != value and is_without_long(own, value)


def is_without_long(own, value):
    """Whether `own` is `value` but for options longer than 255 bytes, of whose length `value` has
    the last byte."""
    if not value:
        return not own
    size = 2 + value[1] if len(value) > 1 else len(value)
    if own.startswith(value[:size]) and is_without_long(own[size:], value[size:]):
        return True
    return any(is_without_long(own, value[longer:])
               for longer in range(size + 256, len(value) + 1, 256))


def is_left_out(sent, field):
    """Whether an option of a BOOTP reply is missing in one of them, which has no room for it."""
    code = int(field.split()[1])
    (_, here), (_, theirs) = sent.answers
    lacks, has = (here, theirs) if code not in here.options else (theirs, here)
    # Of the 64 bytes the cookie and END; dhcpd keeps some for option 52.
    room = 64 - 4 - 1 - (4 if lacks is theirs else 0)
    used = sum(2 + len(value) for other, value in lacks.options.items() if other != 82)
    return code not in lacks.options and used + 2 + len(has.options[code]) > room


class Limits:
    """Which addresses count for `lease limit` in this server, by what it has answered."""

    # The addresses of host entries have this as their last number, or more. They do not count.
    _FIXED = 230

    def __init__(self, nodes):
        self._classes = []  # (name, how many, option code, how many bytes, values or None for any)
        self._counted = defaultdict(set)  # by name and value
        texts = list(_walk(nodes))
        for node in texts:
            if isinstance(node, Block) and node.head.startswith("class "):
                self._class(node, texts)

    def _class(self, node, all_nodes):
        inside = "\n".join(part for part in node.body if isinstance(part, str))
        limit = re.search(r"lease limit (\d+);", inside)
        if not limit:
            return
        name, most = node.head.split('"')[1], int(limit[1])
        spawns = re.search(r"spawn with option ([a-z.-]+);", inside)
        option = spawns or re.search(r"match .*option ([a-z.-]+)", inside)
        code = {"agent.circuit-id": None, "host-name": 12, "vendor-class-identifier": 60}[option[1]]
        heads = (getattr(other, "head", other) for other in all_nodes)
        values = {head.split('"')[3].encode() for head in heads
                  if head.startswith(f'subclass "{name}"')}
        bytes_of = 9 if "match substring" in inside else None
        self._classes.append((name, most, code, bytes_of, None if spawns else values))

    def _of(self, sent):
        """Name, value and limit of each class that the client's lease may count for."""
        options = dict(sent.client.options) if sent.step != "bootp" else {}
        for name, most, code, bytes_of, values in self._classes:
            value = options.get(code, b"")[:bytes_of]
            if code is None and sent.client.agent and sent.client.agent[0] == 1:
                value = sent.client.agent[2:2 + sent.client.agent[1]]
            if value and (values is None or value in values):
                yield (name, value), most

    def are_reached(self, sent):
        """Whether there is no lease for the client, because all its classes have theirs."""
        own = set() if sent.step == "other-id" else {sent.before[0]}
        of = list(self._of(sent))
        is_fixed = sent.answers[1] and self._is_fixed(sent.answers[1][1].yiaddr)
        return not is_fixed and bool(of) and all(
            len(self._counted[key] - own) >= most for key, most in of)

    def learn_first(self, batch):
        """This server may answer a REQUEST before a DISCOVER that came a moment earlier."""
        for sent in batch:
            if sent.answers[0] and sent.answers[0][1].kind == "ACK":
                self._count(sent, sent.answers[0][1].yiaddr)

    def learn(self, sent):
        """Counts what the server has given."""
        if sent.step in ("release", "decline"):
            self._forget(sent.before[0])
        answer = sent.answers[0]
        if answer and answer[1].kind in ("ACK", "BOOTP", "OFFER"):
            self._count(sent, answer[1].yiaddr)

    def _is_fixed(self, address):
        return int(address.rsplit(".", 1)[1]) >= self._FIXED

    def _count(self, sent, address):
        if address == "0.0.0.0" or self._is_fixed(address):
            return
        counted, of = self._counted, list(self._of(sent))
        if not any(address in counted[key] for key, _ in of):
            self._forget(address)
            for key, most in of:
                if len(counted[key]) < most:
                    counted[key].add(address)
                    break

    def _forget(self, address):
        for addresses in self._counted.values():
            addresses.discard(address)


def _walk(nodes):
    """All nodes, those inside others included."""
    for node in nodes:
        yield node
        if isinstance(node, Block):
            yield from _walk(node.body)
            yield from _walk(node.others)
