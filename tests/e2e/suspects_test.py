"""A message that kills its worker is dead-lettered within max_attempts deaths; its neighbours never are."""
import os
import signal

from posthorn_e2e import BINARY, Case, Node, main

NEIGHBOURS = 120
# The message's text is what is done with it. The shell's parent is the worker.
COMMAND = 'read what; case $what in kill) echo x >> killed; kill -9 $PPID;; *) echo "$what" >> done;; esac'


class Suspects(Case):
    def start(self, attempts):
        node = Node(self, config=f"[queue.jobs]\nmax_attempts = {attempts}\nlease = 4s\n")
        jobs = [f"job {number}" for number in range(NEIGHBOURS)]
        self.send(node, "jobs", lines=[*jobs[:NEIGHBOURS // 2], "kill", *jobs[NEIGHBOURS // 2:]])
        return node

    def work_until_empty(self, command, most_deaths):
        """Starts one worker after the other until one ends in peace."""
        deaths = 0
        while (status := self.program(command, "worker").wait()) != 0:
            self.assertEqual(status, -signal.SIGKILL)
            deaths += 1
            self.assertLessEqual(deaths, most_deaths, "the message goes on killing")
        self.assertGreater(deaths, 0)

    def assert_only_the_killer_is_dead(self, node, attempts):
        self.assertEqual(len(self.records("killed")), attempts)
        letters = self.dlq(node, "show", "jobs")
        self.assertEqual([(letter["payload"], letter["reason"]) for letter in letters], [("kill", "max_attempts")])
        self.assertEqual(letters[0]["attempts"], attempts)
        self.assertEqual(set(self.records("done")), {f"job {number}" for number in range(NEIGHBOURS)})

    def check_exec(self, concurrency, attempts):
        node = self.start(attempts)
        self.work_until_empty([BINARY, "work", "--node", node.endpoint, "jobs", "--until-empty", "--concurrency",
                               concurrency, "--exec", COMMAND], attempts)
        self.assert_only_the_killer_is_dead(node, attempts)

    def test_concurrency_1_attempts_3(self):
        self.check_exec(concurrency=1, attempts=3)

    def test_concurrency_1_attempts_5(self):
        self.check_exec(concurrency=1, attempts=5)

    def test_concurrency_4_attempts_3(self):
        self.check_exec(concurrency=4, attempts=3)

    def test_concurrency_4_attempts_5(self):
        self.check_exec(concurrency=4, attempts=5)

    def check_prefetch(self, concurrency):
        """A hundred neighbours are in the hands of the worker that dies."""
        attempts = 3
        node = self.start(attempts)
        self.work_until_empty([os.environ["POSTHORN_KILLABLE_WORKER"], node.endpoint, "jobs", concurrency, 100],
                              attempts)
        self.assert_only_the_killer_is_dead(node, attempts)

    def test_prefetch_100_concurrency_1(self):
        self.check_prefetch(concurrency=1)

    def test_prefetch_100_concurrency_4(self):
        self.check_prefetch(concurrency=4)

    def test_node_dies_as_well(self):
        """Who held what is not forgotten over kill -9 of the node, once it has had the time to write it down."""
        attempts = 3
        node = self.start(attempts)
        for _ in range(attempts):
            worker = self.spawn("work", "--node", node.endpoint, "jobs", "--until-empty", "--exec",
                                COMMAND.replace("kill -9", "sleep 2; kill -9"))
            self.assertEqual(worker.wait(), -signal.SIGKILL)
            node.restart()
        self.work(node, "jobs", "--exec", COMMAND)
        self.assert_only_the_killer_is_dead(node, attempts)


if __name__ == "__main__":
    main()
