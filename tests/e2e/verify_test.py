"""The demo's verifier, given small records that are right, and wrong in one thing at a time."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zlib

VERIFY = pathlib.Path(__file__).resolve().parents[2] / "examples/demo/verify.py"
BLOCK = b"some bytes of a file"
CHECKSUM = zlib.crc32(BLOCK)
FATES = ["passes", "fails-twice", "never-passes", "rejected"]


def good_records():
    """Job 0 was begun by a worker that died and done by another, 1 failed twice, 2 and 3 are dead-lettered."""
    return {
        "a.producer": [f"{event} {number}" for number in range(4) for event in ("sent", "confirmed")],
        "a.worker": ["begun 0 1 p-0"],
        "b.worker": ["begun 0 1 p-0", f"done 0 1 {CHECKSUM}",
                     "begun 1 1 p-1", "failed 1 1", "begun 1 2 p-1", "failed 1 2", "begun 1 3 p-1",
                     f"done 1 3 {CHECKSUM}",
                     "begun 2 1 p-2", "failed 2 1", "begun 2 2 p-2", "failed 2 2",
                     "begun 3 1 p-3", "rejected 3 1"],
    }


def good_letters():
    return [{"id": "p-2", "reason": "max_attempts"}, {"id": "p-3", "reason": "rejected"}]


def verify(records, letters):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "files").mkdir()
        (folder / "files" / "a file").write_bytes(BLOCK)
        (folder / "plan").write_bytes(
            b"".join(b"%d %s 0 %d a file\0" % (n, fate.encode(), len(BLOCK)) for n, fate in enumerate(FATES)))
        (folder / "records").mkdir()
        for file, lines in records.items():
            (folder / "records" / file).write_text("".join(line + "\n" for line in lines))
        (folder / "dead").write_text("".join(json.dumps(letter) + "\n" for letter in letters))
        done = subprocess.run(
            [sys.executable, VERIFY, "--plan", folder / "plan", "--folder", folder / "files", "--records",
             folder / "records", "--dead-letters", folder / "dead"], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


class Verifier(unittest.TestCase):
    def refuses(self, records, letters, *texts):
        status, said = verify(records, letters)
        self.assertEqual(status, 1, said)
        for text in texts:
            self.assertIn(text, said)

    def without(self, line):
        records = good_records()
        for lines in records.values():
            if line in lines:
                lines.remove(line)
        return records

    def test_good_account(self):
        status, said = verify(good_records(), good_letters())
        self.assertEqual(status, 0, said)
        counts = {line.split()[0]: int(line.split()[1]) for line in said.splitlines()}
        self.assertEqual(counts, {"sent": 4, "done": 2, "redelivered": 1, "retried": 3, "dead-lettered": 2, "lost:": 0})

    def test_lost_result(self):
        self.refuses(self.without(f"done 0 1 {CHECKSUM}"), good_letters(), "lost: 1\n", "job 0 has neither")

    def test_wrong_checksum(self):
        records = self.without(f"done 0 1 {CHECKSUM}")
        records["b.worker"].append(f"done 0 1 {CHECKSUM ^ 1}")
        self.refuses(records, good_letters(), "lost: 0\n", "job 0, attempt 1: not the checksum")

    def test_not_confirmed(self):
        self.refuses(self.without("confirmed 1"), good_letters(), "job 1 was never confirmed")

    def test_passed_too_early(self):
        records = self.without(f"done 1 3 {CHECKSUM}")
        records["b.worker"].append(f"done 1 2 {CHECKSUM}")
        self.refuses(records, good_letters(), "job 1 passed at attempt 2")

    def test_lost_dead_letter(self):
        self.refuses(good_records(), good_letters()[:1], "lost: 1\n", "job 3 must be dead-lettered")

    def test_wrong_reason(self):
        letters = good_letters()
        letters[1]["reason"] = "max_attempts"
        self.refuses(good_records(), letters, "job 3 is dead-lettered as max_attempts, not rejected")

    def test_innocent_dead_letter(self):
        letters = [*good_letters(), {"id": "p-0", "reason": "max_attempts"}]
        self.refuses(good_records(), letters, "job 0 is dead-lettered (max_attempts) and should not be")

    def test_unknown_dead_letter(self):
        self.refuses(good_records(), [*good_letters(), {"id": "x-9", "reason": "rejected"}], "x-9 is not a job")

    def test_result_of_the_impossible(self):
        records = good_records()
        records["b.worker"].append(f"done 2 5 {CHECKSUM}")
        self.refuses(records, good_letters(), "job 2 can never pass")

    def test_work_nobody_planned(self):
        records = good_records()
        records["b.worker"].append("begun 7 1 p-7")
        self.refuses(records, good_letters(), "job 7 was worked on and never planned")

    def test_nothing_redelivered(self):
        self.refuses(self.without("begun 0 1 p-0") | {"b.worker": good_records()["b.worker"], "a.worker": []},
                     good_letters(), "nothing was redelivered")


if __name__ == "__main__":
    unittest.main()
