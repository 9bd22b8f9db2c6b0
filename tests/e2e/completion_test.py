"""The completion for bash, run by bash: verbs, options and values are those of the command, queues those of a node."""
import os
import re
import shlex
import subprocess
import time

from posthorn_e2e import BINARY, Case, Node, main


class Completion(Case):
    def complete(self, line, node=None):
        """What bash would offer behind `line`."""
        script = ('source <("$0" completion bash); COMP_LINE=$1; COMP_POINT=${#1}; '
                  '_posthorn "$0"; printf "%s\\n" "${COMPREPLY[@]}"')
        environment = {**os.environ, "POSTHORN_NODE": node.endpoint if node else "ipc:///nobody/is/there"}
        done = subprocess.run(["bash", "--norc", "-c", script, BINARY, line], cwd=self.folder, env=environment,
                              capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stderr, "", f"completing {line!r} says something at the prompt")
        return set(done.stdout.split())

    def help_of(self, *verb):
        done = self.run_posthorn(*verb, "--help")
        self.assertEqual(done.wait(), 0)
        return done.out.decode()

    def test_every_verb_and_every_option(self):
        verbs = set(re.findall(r"^  (\w+) {2,}\w", self.help_of("help").split("Exit codes")[0], re.M))
        self.assertGreaterEqual(len(verbs), 8)
        self.assertEqual(self.complete("posthorn "), verbs | {"--help", "--version"})
        self.assertEqual(self.complete("posthorn inspect"), {"inspect"})
        for verb in verbs:
            with self.subTest(verb):
                options = set(re.findall(r"^  (--[a-z-]+)", self.help_of(verb), re.M))
                self.assertEqual(self.complete(f"posthorn {verb} --"), options)
        self.assertEqual(self.complete("posthorn work jobs --con"), {"--concurrency"})
        self.assertEqual(self.complete("posthorn nonsense --"), set())

    def test_what_is_declared_is_complete(self):
        done = subprocess.run(["bash", "--norc", "-c", f"source <({shlex.quote(BINARY)} completion bash); complete -p"],
                              capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("complete -F _posthorn posthorn", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_queues_of_the_node(self):
        node = Node(self)
        for queue in ("encode.large", "encode.small", "mail"):
            self.send(node, queue, "text")
        queues = {"encode.large", "encode.small", "mail"}
        self.assertEqual(self.complete("posthorn work ", node), queues)
        self.assertEqual(self.complete("posthorn send enc", node), {"encode.large", "encode.small"})
        self.assertEqual(self.complete("posthorn work --concurrency 4 --raw ma", node), {"mail"})
        self.assertEqual(self.complete("posthorn dlq list ", node), queues)
        self.assertEqual(self.complete(f"posthorn work --node {node.endpoint} ma"), {"mail"}, "the line's own node")
        self.assertEqual(self.complete("posthorn work mail ", node), set(), "it takes one")
        self.assertEqual(self.complete("posthorn work --exec ma", node), set(), "that is no place for a queue")

    def test_topics_and_subscriptions_of_the_node(self):
        node = Node(self, config="[topic.orders]\nsubscriptions = billing, inventory\n")
        self.send(node, "mail", "text")
        both = {"orders/billing", "orders/inventory"}
        self.assertEqual(self.complete("posthorn publish ", node), {"orders"})
        self.assertEqual(self.complete("posthorn subscribe --as me o", node), {"orders"})
        self.assertEqual(self.complete("posthorn unsubscribe ", node), both)
        self.assertEqual(self.complete("posthorn work orders/", node), both)
        self.assertEqual(self.complete("posthorn dlq redrive ", node), both | {"orders", "mail"})

    def test_nobody_there(self):
        began = time.monotonic()
        self.assertEqual(self.complete("posthorn work "), set())
        self.assertLess(time.monotonic() - began, 20)
        self.assert_fails(self.run_posthorn("completion", "queues", "--node", "ipc:///nobody/is/there"), 3, "no answer")
        self.assert_fails(self.run_posthorn("completion", "fish"), 2, "say bash, queues, topics or subscriptions")

    def test_words_values_and_files(self):
        self.assertEqual(self.complete("posthorn dlq "), {"list", "show", "redrive", "purge", "edit"})
        self.assertEqual(self.complete("posthorn dlq re"), {"redrive"})
        self.assertEqual(self.complete("posthorn dlq edit jobs --payload"), {"--payload", "--payload-file"})
        self.assertEqual(self.complete("posthorn completion "), {"bash", "queues", "topics", "subscriptions"})
        self.assertEqual(self.complete("posthorn node --auto-create "), {"on", "off"})
        (self.folder / "store").mkdir()
        self.write("store.ini", "")
        self.assertEqual(self.complete("posthorn node --config sto"), {"store", "store.ini"})
        self.assertEqual(self.complete("posthorn dlq edit jobs --payload-file sto"), {"store", "store.ini"})
        self.assertEqual(self.complete("posthorn node --data sto"), {"store"})
        self.assertEqual(self.complete("posthorn inspect sto"), {"store"})


if __name__ == "__main__":
    main()
