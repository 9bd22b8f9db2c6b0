#!/usr/bin/python3
"""Sends each line of standard input to a queue: ls *.mov | send.py encode. Ends when all are on the node's disk."""
import argparse
import os
import select
import sys

import posthorn

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("queue")
options.add_argument("--node", default=os.environ.get("POSTHORN_NODE", "tcp://127.0.0.1:5757"))
options = options.parse_args()

producer = posthorn.Producer(options.node, options.queue)
with open(sys.stdin.fileno(), "rb", buffering=0) as stdin:
    rest, data = b"", b"-"
    while data:
        while not select.select([stdin], [], [], 0.1)[0]:
            producer.step()  # keeps the session alive, and resumes it, while there is nothing to send
        data = stdin.read(65536)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines if data else filter(None, [rest]):
            producer.send(line)
producer.flush()
producer.close()
for sequence, why in producer.refused.items():
    print(f"send.py: line {sequence} was refused: {why}", file=sys.stderr)
print(f"sent {producer.sequence - len(producer.refused)}", file=sys.stderr)
sys.exit(1 if producer.refused else 0)
