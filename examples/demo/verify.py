#!/usr/bin/env python3
"""Draws the account of a run of the demo, from what its processes wrote down and from the files themselves.

    verify.py --plan PLAN --folder FOLDER --records DIRECTORY --dead-letters FILE

It shares no code with Posthorn and asks no node. Exit status: 0 when every job is accounted for, 1 when not.

    PLAN             a record per job, ended by a zero byte: NUMBER FATE OFFSET LENGTH PATH
    *.producer       lines of the producers: sent NUMBER, confirmed NUMBER
    *.worker         lines of the workers: begun NUMBER ATTEMPT ID, then done NUMBER ATTEMPT CRC32, failed or rejected
    --dead-letters   what `posthorn dlq list --json` said: a JSON object per line
"""
import argparse
import collections
import json
import os
import pathlib
import sys
import zlib

# What becomes of a job that never passes: its fate, and the reason its dead letter must give.
DEAD_REASON = {"never-passes": "max_attempts", "rejected": "rejected"}

Job = collections.namedtuple("Job", "number fate offset length path")


def read_plan(path):
    jobs = {}
    for record in pathlib.Path(path).read_bytes().split(b"\0")[:-1]:
        number, fate, offset, length, name = record.split(b" ", 4)
        jobs[int(number)] = Job(int(number), fate.decode(), int(offset), int(length), name)
    return jobs


class Records:
    """What the producers' and workers' files say."""

    def __init__(self, directory):
        self.confirmed = set()
        self.job_of_id = {}
        self.begun = collections.Counter()
        self.failed = collections.Counter()
        self.done = collections.defaultdict(list)  # number -> [(attempt, checksum)]
        for path in sorted(pathlib.Path(directory).iterdir()):
            if path.suffix in (".producer", ".worker"):
                for line in path.read_text().splitlines():
                    self.take(line.split())

    def take(self, words):
        event, number = words[0], int(words[1])
        if event == "confirmed":
            self.confirmed.add(number)
        elif event == "begun":
            self.begun[number] += 1
            self.job_of_id[words[3]] = number
        elif event == "done":
            self.done[number].append((int(words[2]), int(words[3])))
        elif event == "failed":
            self.failed[number] += 1


class Blocks:
    """The blocks of the files as they are on disk now, one file in memory at a time."""

    def __init__(self, folder):
        self.folder = os.fsencode(folder)
        self.checksums = {}

    def checksum(self, job):
        key = (job.path, job.offset)
        if key not in self.checksums:
            with open(os.path.join(self.folder, job.path), "rb") as file:
                file.seek(job.offset)
                self.checksums[key] = zlib.crc32(file.read(job.length))
        return self.checksums[key]


def read_dead_letters(path, records):
    """number -> reason; problems with the list itself are returned beside it."""
    dead, problems = {}, []
    for line in pathlib.Path(path).read_text().splitlines():
        letter = json.loads(line)
        number = records.job_of_id.get(letter["id"])
        if number is None:
            problems.append(f"dead letter {letter['id']} is not a job any worker has begun")
        elif number in dead:
            problems.append(f"job {number} is dead-lettered twice")
        else:
            dead[number] = letter["reason"]
    return dead, problems


def check(jobs, records, dead, blocks, plan_time):
    """Yields (kind, sentence) for everything that is off; the kind `lost` is a job nobody can account for."""
    for job in jobs.values():
        results = records.done[job.number]
        if job.number not in records.confirmed:
            yield "unconfirmed", f"job {job.number} was never confirmed to its producer"
        for attempt, checksum in results:
            if checksum != blocks.checksum(job):
                name = os.path.join(blocks.folder, job.path)
                changed = os.stat(name).st_mtime > plan_time
                why = " (the file was changed while the demo ran)" if changed else ""
                yield "wrong", f"job {job.number}, attempt {attempt}: not the checksum of its block of {name!r}{why}"
            if job.fate == "fails-twice" and attempt < 3:
                yield "wrong", f"job {job.number} passed at attempt {attempt}, before it had failed twice"
        if job.fate in DEAD_REASON:
            if results:
                yield "wrong", f"job {job.number} can never pass, yet it has a result"
            if job.number not in dead:
                yield "lost", f"job {job.number} must be dead-lettered and is not"
            elif dead[job.number] != DEAD_REASON[job.fate]:
                yield "wrong", f"job {job.number} is dead-lettered as {dead[job.number]}, not {DEAD_REASON[job.fate]}"
        elif not results and job.number not in dead:
            yield "lost", f"job {job.number} has neither a result nor a dead letter"
        elif job.number in dead:
            yield "wrong", f"job {job.number} is dead-lettered ({dead[job.number]}) and should not be"
    for number in records.begun.keys() - jobs.keys():
        yield "wrong", f"job {number} was worked on and never planned"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--plan", "--folder", "--records", "--dead-letters"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()

    jobs = read_plan(options.plan)
    records = Records(options.records)
    dead, problems = read_dead_letters(options.dead_letters, records)
    problems = [("wrong", text) for text in problems]
    problems += check(jobs, records, dead, Blocks(options.folder), os.stat(options.plan).st_mtime)

    # A failure is retried unless it was the job's last; what else was begun again is a redelivery.
    retried = {n: f - (dead.get(n) == "max_attempts") for n, f in records.failed.items()}
    redelivered = sum(max(0, times - 1 - retried.get(n, 0)) for n, times in records.begun.items())
    if redelivered == 0:
        problems.append(("wrong", "nothing was redelivered, so killing the processes has shown nothing"))
    reasons = collections.Counter(dead.values())
    twice = sum(len(results) - 1 for results in records.done.values() if len(results) > 1)
    lost = sum(kind == "lost" for kind, _ in problems)

    rows = [
        ("sent", len(records.confirmed), "jobs their producers were told are safe"),
        ("done", sum(bool(results) for results in records.done.values()), "with the checksum of their block on disk"),
        ("redelivered", redelivered, f"times a job was begun again because a process died; {twice} had a result already"),
        ("retried", sum(retried.values()), "times a job was begun again because it had failed"),
        ("dead-lettered", len(dead), ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))),
    ]
    for name, count, meaning in rows:
        print(f"  {name:<14}{count:>9,}  {meaning}")
    print(f"  lost: {lost}")
    for _, text in problems[:20]:
        print(f"  WRONG: {text}")
    if len(problems) > 20:
        print(f"  WRONG: and {len(problems) - 20} more like these")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
