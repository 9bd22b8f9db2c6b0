"""A job that is being worked on is not begun again because the node was restarted or the link was gone for a while."""
import time

from posthorn_e2e import Case, Node, main, until
from proxy import Proxy

BEGUN = 'read name; echo "$name" >> begun; '


class Leases(Case):
    def assert_done_once(self, node, queue):
        row = node.until_queue(queue, lambda row: row["ready"] + row["waiting"] + row["in_flight"] == 0, "is empty")
        self.assertEqual(self.records("begun").count(queue), 1, "begun exactly once")
        self.assertEqual(self.records("done").count(queue), 1, "done exactly once")
        self.assertEqual((row["dead"], row["redelivered"], row["stale"]), (0, 0, 0), row)

    def test_node_restart(self):
        """Killed while the job runs; back before it ends, and only after it has ended."""
        node = Node(self)
        for queue, down in (("long", "back"), ("short", "away")):
            with self.subTest(queue):
                command = BEGUN + "while [ ! -e $name ]; do sleep 0.05; done; echo $name >> done"
                worker = self.spawn("work", "--node", node.endpoint, queue, "--exec", command)
                # Would take it, if it came.
                idle = self.spawn("work", "--node", node.endpoint, queue, "--exec", command)
                self.send(node, queue, queue)
                until(lambda: queue in self.records("begun"), "the job has begun")
                node.kill()
                if down == "away":
                    self.write(queue, "")  # it may end
                    until(lambda: queue in self.records("done"), "the job has ended")
                node.start()
                if down == "back":
                    node.until_queue(queue, lambda row: row["in_flight"] == 1 and row["consumers"] == 2,
                                     "both workers are back, one has its job")
                    self.write(queue, "")
                node.until_queue(queue, lambda row: row["acked"] == 1, "the ack is accepted")
                self.assert_done_once(node, queue)
                for process in (worker, idle):
                    process.signal()
                    self.assertEqual(process.wait(), 0)

    def test_cut_off_for_ten_seconds(self):
        """Stalled, and cut and refused; the job outlasts that, or ends meanwhile. The lease is the default, 30 s."""
        node = Node(self)
        proxies = {"stall": Proxy(node.port), "cut": Proxy(node.port)}
        cases = [(kind, f"{kind}.{ends}") for kind in proxies for ends in ("meanwhile", "after")]
        command = BEGUN + 'while [ ! -e "may.$name" ]; do sleep 0.05; done; echo "$name" >> done'
        for kind, queue in cases:
            self.addCleanup(proxies[kind].close)
            self.spawn("work", "--node", proxies[kind].endpoint, queue, "--exec", command)
            node.until_queue(queue, lambda row: row["consumers"] == 1, "the worker is there")
            self.send(node, queue, queue)
        until(lambda: len(self.records("begun")) == len(cases), "the jobs have begun")
        for _, queue in cases:  # would take them, if they came
            self.spawn("work", "--node", node.endpoint, queue, "--exec", BEGUN + 'echo "$name" >> done')
            node.until_queue(queue, lambda row: row["consumers"] == 2, "both workers are there")
        proxies["stall"].stall()
        proxies["cut"].cut()
        for kind in proxies:
            self.write(f"may.{kind}.meanwhile", "")
        time.sleep(10)  # this is the test
        rows = node.queues()
        proxies["stall"].go_on()
        proxies["cut"].go_on()
        for _, queue in cases:
            row = rows[queue]
            self.assertEqual((row["in_flight"], row["consumers"]), (1, 1), f"given up but its lease is kept: {row}")
        self.assertEqual(set(self.records("done")), {f"{kind}.meanwhile" for kind in proxies})
        for kind in proxies:
            self.write(f"may.{kind}.after", "")
        for _, queue in cases:
            self.assert_done_once(node, queue)


if __name__ == "__main__":
    main()
