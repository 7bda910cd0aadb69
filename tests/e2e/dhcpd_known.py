"""What docs/DIFFERENCES.md has of what differs between this server and dhcpd."""

import re
from collections import defaultdict

from dhcpd_files import Block

INFORMS = ("inform", "inform-bound", "inform-source")
# What options of spaces travel in.
CARRIERS = ("option 43", "option 201", "option 232")
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
        # 11: offers that count for `lease limit`.
        line.endswith("and here does not") and limits.are_reached("here", sent),
        line.endswith("and dhcpd does not") and limits.are_reached("dhcpd", sent),
        # 13: the client identifier of a host entry.
        field == "option 61" and line.startswith("option 61: here nothing, dhcpd 69642d")
        and "option dhcp-client-identifier \"id-" in text,
        # 12: a reserved lease that is renewed at once.
        field == "option 51" and "select-infinite" in sent.client.steps
        and "infinite-is-reserved on" in text,
        # 15: options of a space that are longer than their length can say.
        here and theirs and field in CARRIERS and is_too_long(theirs, field, text),
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


def is_too_long(theirs, field, text):
    """Whether dhcpd sends more than a length of one byte can say, or had no room for so much."""
    value = theirs.options.get(int(field.split()[1]))
    if value is None:
        return re.search(r" (rack|site|pxe)\.[a-z]+ = .*binary-to-ascii\(", text)
    return len(value) > 255


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
    """Which addresses count for `lease limit` in each server, by what both have answered."""

    # The addresses of host entries have this as their last number, or more. They do not count.
    _FIXED = 230

    def __init__(self, nodes):
        self._classes = []  # (name, how many, option code, how many bytes, values or None for any)
        self._added = []  # likewise, those that `add` names
        # By server, name and value.
        self._counted = {"here": defaultdict(set), "dhcpd": defaultdict(set)}
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
        if f'add "{name}";' in all_nodes:
            self._added.append((name, most))

    def _of(self, sent):
        """Name, value and limit of each class that the client's lease may count for."""
        options = dict(sent.client.options) if sent.step != "bootp" else {}
        for name, most, code, bytes_of, values in self._classes:
            value = options.get(code, b"")[:bytes_of]
            if code is None and sent.client.agent and sent.client.agent[0] == 1:
                value = sent.client.agent[2:2 + sent.client.agent[1]]
            if value and (values is None or value in values):
                yield (name, value), most

    def are_reached(self, server, sent):
        """Whether a server has no lease for the client, because all its classes have theirs."""
        counted = self._counted[server]
        own = set() if sent.step == "other-id" else {sent.before[server == "dhcpd"]}
        of = list(self._of(sent))
        if server == "dhcpd":
            # Whether the client comes by an `add` is not known.
            of += [((name, None), most) for name, most in self._added]
        return bool(of) and all(len(counted[key] - own) >= most for key, most in of)

    def learn_first(self, batch):
        """This server may answer a REQUEST before a DISCOVER that came a moment earlier."""
        for sent in batch:
            if sent.answers[0] and sent.answers[0][1].kind == "ACK":
                self._count("here", sent, sent.answers[0][1].yiaddr)

    def learn(self, sent):
        """Counts what the servers have given."""
        for number, server in enumerate(self._counted):
            counted, answer = self._counted[server], sent.answers[number]
            if sent.step in ("release", "decline"):
                _forget(counted, sent.before[number])
            kind = answer and answer[1].kind
            # In dhcpd an offer does not count.
            if kind in ("ACK", "BOOTP") or kind == "OFFER" and server == "here":
                self._count(server, sent, answer[1].yiaddr)

    def _count(self, server, sent, address):
        if address == "0.0.0.0" or int(address.rsplit(".", 1)[1]) >= self._FIXED:
            return
        counted, of = self._counted[server], list(self._of(sent))
        if not any(address in counted[key] for key, _ in of):
            _forget(counted, address)
            for key, most in of:
                if len(counted[key]) < most:
                    counted[key].add(address)
                    break
        for name, _ in self._added:
            counted[name, None].add(address)


def _forget(counted, address):
    for addresses in counted.values():
        addresses.discard(address)


def _walk(nodes):
    """All nodes, those inside others included."""
    for node in nodes:
        yield node
        if isinstance(node, Block):
            yield from _walk(node.body)
            yield from _walk(node.others)
