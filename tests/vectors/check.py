"""Checks the vectors with a msgpack that is not ours: the hex decoded is the JSON, the JSON encoded is the hex.

And that the sessions printed in docs/protocol.md are those of the vectors.
"""

import json
import pathlib
import re
import sys

import msgpack

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "protocol.md"
KEYS = {
    "version": 0, "producer": 1, "sequence": 2, "previous": 3, "subject": 4, "type": 5, "timestamp": 6,
    "ordering_key": 7, "priority": 8, "delay": 9, "ttl": 10, "correlation_id": 11, "reply_to": 12,
    "content_type": 13, "traceparent": 14, "dedup_key": 15, "headers": 16, "status": 17, "payload": 31,
}
BINARY = ("producer", "payload")

failures = []
checked = 0


def check(holds, name, what):
    global checked
    checked += 1
    if not holds:
        failures.append(f"{name}: {what}")


def pack(value):
    return msgpack.packb(value, use_bin_type=True).hex()


def unpack(text):
    return msgpack.unpackb(bytes.fromhex(text), raw=False, strict_map_key=False)


def envelope_map(fields):
    """The msgpack map of an envelope's JSON, its keys ascending."""
    values = {KEYS[name]: bytes.fromhex(value) if name in BINARY else value for name, value in fields.items()}
    return dict(sorted(values.items()))


def from_json(value):
    if isinstance(value, dict):
        if list(value) == ["bin"]:
            return bytes.fromhex(value["bin"])
        return {key: from_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    return value


def check_envelopes(vectors):
    for vector in vectors["good"]:
        name, expected = vector["name"], envelope_map(vector["envelope"])
        known = {key: value for key, value in unpack(vector["hex"]).items() if key in KEYS.values()}
        check(known == expected, name, f"{known} is not {expected}")
        check(pack(expected) == vector.get("canonical", vector["hex"]), name, "encodes to other bytes")
        keys = list(unpack(vector["hex"]))
        check(keys == sorted(keys), name, "keys do not ascend")


def check_frame(name, vector):
    expected = from_json(vector["frame"])
    check(unpack(vector["hex"]) == expected, name, f"{unpack(vector['hex'])} is not {expected}")
    check(pack(expected) == vector["hex"], name, "encodes to other bytes")


def check_fragments(vectors):
    joined = b""
    for vector in vectors["frames"]:
        check_frame("fragments", vector)
        check(len(vector["hex"]) // 2 <= vectors["limit"], "fragments", "a frame is above the limit")
        joined += from_json(vector["frame"])[3]
    check(joined.hex() == "".join(pack(value) for value in vectors["joined"]), "fragments", "join to other bytes")


def check_frames(vectors):
    for group in ("producer_session", "consumer_session", "commands", "tolerated"):
        for vector in vectors[group]:
            check_frame(vector["name"], vector)
    check_fragments(vectors["fragments"])


def check_document(vectors, text):
    shown = vectors["producer_session"] + vectors["consumer_session"] + vectors["fragments"]["frames"]
    printed = re.findall(r"^  ([0-9a-f]{8,})$", text, re.MULTILINE)
    check(printed == [vector["hex"] for vector in shown], DOCUMENT.name, "prints other bytes than the vectors have")
    values = [json.loads(line) for line in re.findall(r"^  (\[.*\])$", text, re.MULTILINE)]
    check(values == [vector["frame"] for vector in shown], DOCUMENT.name, "prints other values than the vectors have")


def main():
    envelopes = json.loads((HERE / "envelopes.json").read_text(encoding="utf-8"))
    frames = json.loads((HERE / "frames.json").read_text(encoding="utf-8"))
    check_envelopes(envelopes)
    check_frames(frames)
    check_document(frames, DOCUMENT.read_text(encoding="utf-8"))
    for vector in envelopes["bad"] + frames["bad"]:
        bytes.fromhex(vector["hex"])  # is hex at all; what is bad about it only our reader knows
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{checked} checks, {len(failures)} failed")
    return 1 if failures or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
