// mcr under a service manager that speaks sd_notify(3), played by socat: what it is told from start to stop.

import { expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { SocketDirectory } from "../control/fake-relay.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { openTopology, repository, type Topology } from "../support/topology.ts";
import { waitUntil } from "../support/wait.ts";

const rules = streamRules({ group: "239.1.1.1", port: 5001 }, { group: "239.10.1.1", port: 6001 });

/** In the relay's namespace: abstract names belong to a network namespace. */
async function listen(topology: Topology, name: string) {
  const isAbstract = name.startsWith("@");
  const listener = topology.spawn("relay-ns", [
    ...["socat", "-u", isAbstract ? `ABSTRACT-RECV:${name.slice(1)}` : `UNIX-RECV:${name}`, "STDOUT"],
  ]);
  await waitUntil(async () => (await topology.output("relay-ns", ["cat", "/proc/net/unix"])).includes(name), {
    what: `socat to listen at ${name}`,
  });
  return listener;
}

const count = (text: string, word: string) => text.split("\n").filter((line) => line === word).length;

test.each(["a path", "an abstract name"])(
  "start, reloads and stop are told to %s",
  async (kind) => {
    using directory = new SocketDirectory();
    await using topology = await openTopology("chain");
    const name = kind === "a path" ? directory.socket : "@mcr-test-notify";
    const listener = await listen(topology, name);
    await using relay = await startRelay(topology, rules, { env: { NOTIFY_SOCKET: name } });
    await listener.waitForOutput(/READY=1\nSTATUS=1 rule: 1 \w+\n/);
    await listener.waitForOutput("STATUS=1 rule: 1 silent\n", 15_000);

    await relay.write(rules.replace("ttl", "tll").replace("port = 5001", "port = 0"));
    relay.process.kill("SIGHUP");
    const [, usec] =
      /RELOADING=1\nMONOTONIC_USEC=(\d+)\n/.exec(
        await listener.waitForOutput(
          /RELOADING=1\nMONOTONIC_USEC=\d+\nREADY=1\nSTATUS=.*last reload refused: .*ingress\.port/,
        ),
      ) ?? [];
    expect(Number(usec)).toBeGreaterThan(0);
    await relay.write(rules);
    await relay.reload();
    await waitUntil(() => count(listener.stdout, "READY=1") === 3, { what: "the second reload to be done" });
    expect(listener.stdout.trimEnd().split("\n").at(-1)).toMatch(/^STATUS=1 rule: 1 \w+$/);

    expect((await relay.stop()).exitCode).toBe(0);
    await waitUntil(() => count(listener.stdout, "STOPPING=1") === 1, { what: "the stop to be told" });
    expect(listener.stdout.trimEnd().split("\n").at(-1)).toBe("STOPPING=1");
  },
  60_000,
);

test("a worker that hangs stops the watchdog; one that goes on starts it again", async () => {
  using directory = new SocketDirectory();
  await using topology = await openTopology("chain");
  const listener = await listen(topology, directory.socket);
  const env = { NOTIFY_SOCKET: directory.socket, WATCHDOG_USEC: "1000000" };
  await using relay = await startRelay(topology, rules, { workers: 2, env });
  const signs = () => count(listener.stdout, "WATCHDOG=1");
  await waitUntil(() => signs() >= 3, { what: "three signs of life", deadlineMs: 15_000 });

  const worker = topology.spawn("relay-ns", [
    `${repository}/dist/test/hold`,
    String(await threadOf(relay.process.pid, "mcr-worker-1")),
  ]);
  await worker.waitForOutput("held");
  await relay.process.waitForOutput("worker 1 makes no progress", 20_000);
  const before = signs();
  await Bun.sleep(3_000); // nothing happens
  expect(signs()).toBe(before);
  expect((await relay.status()).pid).toBe(relay.process.pid);

  worker.closeStdin();
  await worker.exited;
  await waitUntil(() => signs() > before, { what: "signs of life again", deadlineMs: 15_000 });
}, 90_000);

test("a socket that is not there costs one warning, and the relay runs", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rules, {
    env: { NOTIFY_SOCKET: "/run/nobody.sock", WATCHDOG_USEC: "400000" },
  });
  await relay.waitForState("stream-0", "silent", 15_000);
  await relay.reload();
  expect(relay.process.stderr.match(/cannot tell the service manager/g)).toHaveLength(1);
  expect(relay.process.stderr).toContain(
    "NOTIFY_SOCKET=/run/nobody.sock: no such file or directory (ENOENT)",
  );
}, 60_000);

async function threadOf(pid: number, name: string): Promise<number> {
  for (const tid of await readdir(`/proc/${pid}/task`))
    if ((await readFile(`/proc/${pid}/task/${tid}/comm`, "utf8")).trim() === name) return Number(tid);
  throw new Error(`process ${pid} has no thread ${name}`);
}
