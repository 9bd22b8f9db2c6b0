#!/usr/bin/python3
"""Prints the jobs of a queue, a line each. "fail ..." fails at its first attempt, "bad ..." is rejected."""
import argparse
import os
import signal
import sys

import posthorn

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("queue")
options.add_argument("--node", default=os.environ.get("POSTHORN_NODE", "tcp://127.0.0.1:5757"))
options = options.parse_args()


def handle(payload, attempt):
    if payload.startswith(b"bad "):
        return posthorn.REJECT
    if payload.startswith(b"fail ") and attempt == 1:
        raise ValueError("the first attempt fails")
    sys.stdout.buffer.write(payload + b"\n")
    sys.stdout.buffer.flush()  # only what is out is done


told = []
signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
signal.signal(signal.SIGINT, lambda number, _: told.append(number))
posthorn.Worker(options.node, options.queue).run(handle, until=lambda: told)
