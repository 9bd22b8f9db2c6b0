"""What `work` promises to commands: exit status, reason, environment, bytes; and what it writes without one."""
import os
import subprocess
from collections import Counter

import msgpack

from posthorn_e2e import Case, Node, main
from raw_client import RawClient

ONE_ATTEMPT = "[queue.*]\nmax_attempts = 1\n"
BYTES = b"\0binary\n\xff\xfe lines\n\n\0\r\n and no newline at the end \xc3"


class ExitStatus(Case):
    def test_ends_that_settle(self):
        node = Node(self, config=ONE_ATTEMPT)
        self.send(node, "jobs", "exit 0", "exit 65", "exit 1", "exit 64", "exit 255", "kill -KILL $$", "kill -TERM $$",
                  "echo a word >&2; exit 65", "echo a word >&2; exit 3",
                  "echo one >&2; echo 'the last one' >&2; exit 3",
                  "echo with blanks below >&2; echo >&2; echo '  ' >&2; exit 3", "printf 'no newline' >&2; exit 3",
                  "echo its last words >&2; kill -KILL $$")
        self.work(node, "jobs", "--exec", 'read script; eval "$script"', "--concurrency", "4")
        letters = {letter["payload"]: (letter["reason"], letter["text"]) for letter in self.dlq(node, "show", "jobs")}
        failed = "max_attempts"
        self.assertEqual(letters, {
            "exit 65": ("rejected", "exit status 65"),
            "exit 1": (failed, "exit status 1"),
            "exit 64": (failed, "exit status 64"),
            "exit 255": (failed, "exit status 255"),
            "kill -KILL $$": (failed, "killed by signal 9 (SIGKILL)"),
            "kill -TERM $$": (failed, "killed by signal 15 (SIGTERM)"),
            "echo a word >&2; exit 65": ("rejected", "a word"),
            "echo a word >&2; exit 3": (failed, "a word"),
            "echo one >&2; echo 'the last one' >&2; exit 3": (failed, "the last one"),
            "echo with blanks below >&2; echo >&2; echo '  ' >&2; exit 3": (failed, "with blanks below"),
            "printf 'no newline' >&2; exit 3": (failed, "no newline"),
            "echo its last words >&2; kill -KILL $$": (failed, "its last words"),
        })
        row = node.queue("jobs")
        self.assertEqual((row["acked"], row["rejected"], row["nacked"]), (1, 2, 10), row)

    def test_cannot_run(self):
        """126 and 127: nothing is wrong with the message."""
        node = Node(self, config=ONE_ATTEMPT)
        self.send(node, "jobs", "a job")
        no_program = self.write("not-executable", "text")
        for command in ("/no/such/program", str(no_program), "exit 126", "exit 127"):
            worker = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--until-empty", "--exec", command)
            self.assert_fails(worker, 6, "the command cannot be run", "the message goes back")
            row = node.queue("jobs")
            self.assertEqual((row["ready"], row["dead"], row["nacked"]), (1, 0, 0), row)
        self.assertEqual(self.work(node, "jobs", "--exec", "echo $POSTHORN_ATTEMPT").lines, ["1"])

    def test_retries_count_up(self):
        node = Node(self, config="[queue.jobs]\nmax_attempts = 3\nbackoff = 50ms\n")
        self.send(node, "jobs", "a job")
        self.work(node, "jobs", "--exec", "echo $POSTHORN_ID $POSTHORN_ATTEMPT >> attempts; exit 1")
        letter, = self.dlq(node, "list", "jobs")
        self.assertEqual(self.records("attempts"), [f"{letter['id']} {attempt}" for attempt in (1, 2, 3)])
        self.assertEqual((letter["attempts"], letter["reason"]), (3, "max_attempts"))


class WhatTheCommandGets(Case):
    def test_environment(self):
        node = Node(self)
        self.send(node, "jobs", "a job", arguments=[
            "--type", "welcome mail", "--header", "lang=en", "--header", "x-trace.id=a=b c", "--header", "PATH=/evil",
            "--header", "ld_preload=evil.so", "--header", "Über=ü", "--header", "empty="])
        # What it inherits may hold such names already: a message's own count, those of no message do not.
        inherited = {"POSTHORN_HEADER_STALE": "of another message", "POSTHORN_TYPE": "stale", "POSTHORN_SUBJECT": "stale", "KEPT": "yes",
                     **{name: value for name, value in os.environ.items()
                        if name == "PATH" or name.endswith("_OPTIONS")}}
        plain = subprocess.run(["/bin/sh", "-c", "env -0"], env=inherited, cwd=self.folder, check=True,
                               capture_output=True).stdout
        self.work(node, "jobs", "--exec", "env -0 > variables", environment=inherited)

        def variables(raw):
            return dict(one.split("=", 1) for one in raw.decode().split("\0") if one)
        expected = {name: value for name, value in variables(plain).items() if not name.startswith("POSTHORN_")}
        seen = variables((self.folder / "variables").read_bytes())
        self.assertRegex(seen.pop("POSTHORN_ID"), r"^[0-9a-f]{32}-1$")
        self.assertRegex(seen.pop("POSTHORN_SEQUENCE"), r"^[1-9][0-9]*$")
        self.assertEqual(seen, expected | {
            "POSTHORN_ATTEMPT": "1", "POSTHORN_TYPE": "welcome mail", "POSTHORN_SUBJECT": "", "POSTHORN_HEADER_LANG": "en",
            "POSTHORN_HEADER_X_TRACE_ID": "a=b c", "POSTHORN_HEADER_PATH": "/evil",
            "POSTHORN_HEADER_LD_PRELOAD": "evil.so", "POSTHORN_HEADER___BER": "ü", "POSTHORN_HEADER_EMPTY": ""})

    def test_exact_bytes(self):
        node = Node(self)
        payloads = {"few": BYTES, "none": b"", "many": os.urandom(200_000)}
        for name, payload in payloads.items():
            with RawClient(node.endpoint) as client:
                client.publish("jobs", payload, type=name)
        self.work(node, "jobs", "--exec", 'cat > "$POSTHORN_TYPE"')
        for name, payload in payloads.items():
            self.assertEqual((self.folder / name).read_bytes(), payload, name)

    def test_command_that_reads_nothing(self):
        node = Node(self)
        with RawClient(node.endpoint) as client:
            client.publish("jobs", os.urandom(200_000))
        self.work(node, "jobs", "--exec", "exit 0")
        self.assertEqual(node.queue("jobs")["acked"], 1)


class WhatIsWritten(Case):
    def test_bytes_of_lines(self):
        node = Node(self)
        lines = ["plain", "", "  blanks  ", "tab\tand \u00fc", "back\\slash 'quotes\""]
        self.send(node, "jobs", lines=lines)
        self.assertEqual(self.work(node, "jobs").lines, lines)

    def test_count_and_text_arguments(self):
        node = Node(self)
        done = self.send(node, "jobs", "a", "b", arguments=["--count", "3"])
        self.assertIn("sent 6\n", done.err)
        first = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--count", "2")
        self.assertEqual(first.wait(), 0)
        self.assertEqual(len(first.lines), 2)
        self.assertEqual(Counter(first.lines + self.work(node, "jobs").lines), {"a": 3, "b": 3})

    def test_msgpack(self):
        node = Node(self)
        value = {"path": "cat.mov", "sizes": [1, -2, 2.5, None, True], "say": "\"hi\"\n"}
        packed = msgpack.packb(value)
        for _ in range(2):
            with RawClient(node.endpoint) as client:
                client.publish("jobs", packed, content_type="application/msgpack")
        shown = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--count", "1").out.decode()
        self.assertEqual(shown, '{"path":"cat.mov","sizes":[1,-2,2.5,null,true],"say":"\\"hi\\"\\n"}\n')
        self.assertEqual(self.work(node, "jobs", "--raw").out, packed + b"\n")

    def test_broken_msgpack(self):
        node = Node(self)
        with RawClient(node.endpoint) as client:
            client.publish("jobs", b"\xc1 not msgpack", content_type="application/msgpack")
        self.assertEqual(self.work(node, "jobs").out, b"")
        letter, = self.dlq(node, "list", "jobs")
        self.assertIn("--raw", letter["text"])

    def test_output_that_is_gone(self):
        node = Node(self)
        self.send(node, "jobs", "one", "two", "three")
        with open("/dev/full", "wb") as full:
            worker = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--until-empty", stdout=full)
        self.assert_fails(worker, 1, "cannot write to standard output: No space left")
        self.assertEqual(sorted(self.work(node, "jobs").lines), ["one", "three", "two"])

    def test_idle_exit(self):
        node = Node(self)
        self.send(node, "jobs", "one")
        worker = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--idle-exit", "10")
        self.assertEqual((worker.wait(), worker.lines), (0, ["one"]))


if __name__ == "__main__":
    main()
