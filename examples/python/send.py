#!/usr/bin/python3
"""Sends each line of standard input to a queue: ls *.mov | send.py encode. Ends when all are on the node's disk."""
import argparse
import os
import sys

import posthorn

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("queue")
options.add_argument("--node", default=os.environ.get("POSTHORN_NODE", "tcp://127.0.0.1:5757"))
options = options.parse_args()

producer = posthorn.Producer(options.node, options.queue)
read = refused = 0
rest, data = b"", b"-"
while data:
    data = sys.stdin.buffer.read1(1 << 20)  # what is there by now
    *lines, rest = (rest + data).split(b"\n")
    if not data and rest:
        lines = [rest]
    try:
        producer.send(lines)
    except posthorn.Refused as some:
        for index, why in some.args[0].items():
            print(f"send.py: line {read + index + 1} was refused: {why}", file=sys.stderr)
        refused += len(some.args[0])
    read += len(lines)
print(f"sent {read - refused}", file=sys.stderr)
sys.exit(1 if refused else 0)
