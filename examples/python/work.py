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
options.add_argument("--concurrency", type=int, default=1)
options.add_argument("--until-empty", action="store_true", help="end when the queue has nothing ready")
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
worker = posthorn.Worker(options.node, options.queue, handle, concurrency=options.concurrency)
worker.run(until=lambda it: told or options.until_empty and it.ready is False and not it.held)
