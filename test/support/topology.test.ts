// The topologies are what they promise: addresses, snooping that is in effect, and an end with their owner.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { joinedGroups, snoopedGroups } from "./igmp.ts";
import { linkCounters } from "./link.ts";
import { Process } from "./process.ts";
import { address, openTopology, repository, type TopologyName, whyNoTopology } from "./topology.ts";
import { faultsOf, noFaults, send, startReceiver } from "./traffic.ts";
import { waitUntil } from "./wait.ts";

setDefaultTimeout(60_000);

const reason = whyNoTopology();
if (reason !== undefined) console.error(`skipped: ${reason}`);
const netTest = test.skipIf(reason !== undefined);

netTest("chain: each namespace has exactly its links, addresses and the kernel's own limits", async () => {
  await using chain = await openTopology("chain");
  const relay = await chain.output("relay-ns", ["ip", "-brief", "-4", "address"]);
  expect(
    relay.split("\n").map((line) => line.replace(/@\S+/, "").split(/\s+/).slice(0, 3).join(" ")),
  ).toEqual([
    "lo UNKNOWN 127.0.0.1/8",
    `veth1 UP ${address.relayIngress}/24`,
    `veth2 UP ${address.relayEgress}/24`,
    "",
  ]);
  expect(await chain.output("relay-ns", ["cat", "/proc/sys/net/ipv4/igmp_max_memberships"])).toBe("20\n");
  expect(await chain.output("relay-ns", ["ls", "/sys/class/net"])).toBe("lo\nveth1\nveth2\n");
  expect(await chain.output("gen-ns", ["ip", "-brief", "-4", "address"])).toContain(address.gen);
  expect(await chain.output("sink-ns", ["ip", "-brief", "-4", "address"])).toContain(address.sink);
});

netTest(
  "run gives exit code, signal, stdout and stderr, and a program past its deadline is killed",
  async () => {
    await using chain = await openTopology("chain");
    expect(await chain.run("gen-ns", ["sh", "-c", "cat; echo bad >&2; exit 3"], { stdin: "text" })).toEqual({
      exitCode: 3,
      signal: null,
      stdout: "text",
      stderr: "bad\n",
    });
    expect((await chain.run("gen-ns", ["sleep", "60"], { deadlineMs: 100 })).signal).toBe("SIGKILL");
    expect(await chain.output("gen-ns", ["pwd"], { cwd: "/tmp" })).toBe("/tmp\n");
    expect(await chain.output("gen-ns", ["printenv", "SHOE"], { env: { SHOE: "box" } })).toBe("box\n");
  },
);

netTest("the pid of a spawned process is the program itself, and signals reach it", async () => {
  await using chain = await openTopology("chain");
  const child = chain.spawn("sink-ns", [
    "sh",
    "-c",
    "trap 'echo hup' HUP; echo $$; while :; do read line; done",
  ]);
  expect(Number(await child.waitForOutput(/^\d+/))).toBe(child.pid);
  child.kill("SIGHUP");
  await child.waitForOutput("hup");
});

netTest("/run is private to a topology and shared by its namespaces", async () => {
  await using one = await openTopology("chain");
  await using other = await openTopology("chain");
  await one.output("relay-ns", ["sh", "-c", "mkdir /run/mcr && touch /run/mcr/mcr.sock"]);
  expect(await one.output("gen-ns", ["ls", "/run/mcr"])).toBe("mcr.sock\n");
  expect(await other.output("relay-ns", ["ls", "/run"])).toBe("netns\n");
});

netTest("disposing a topology ends every process in it", async () => {
  const chain = await openTopology("chain");
  const child = chain.spawn("gen-ns", ["sleep", "600"]);
  await waitUntil(() => inNamespace(child.pid), { what: "the child to be inside" });
  await chain[Symbol.asyncDispose]();
  expect(isAlive(child.pid)).toBe(false);
  expect(isAlive(chain.holderPid)).toBe(false);
});

netTest("holder and children die when their owner is killed", async () => {
  const owner = new Process([
    process.execPath,
    "--eval",
    `import { openTopology } from "${repository}/test/support/topology.ts";
     const chain = await openTopology("chain");
     const child = chain.spawn("gen-ns", ["sh", "-c", "echo inside; exec sleep 600"]);
     await child.waitForOutput("inside");
     console.log("pids", chain.holderPid, child.pid);
     setInterval(() => {}, 1000);`,
  ]);
  const pids = (await owner.waitForOutput(/pids \d+ \d+/, 10_000)).split(" ").slice(1).map(Number);
  expect(pids.map(isAlive)).toEqual([true, true]);
  owner.kill("SIGKILL");
  await owner.exited;
  await waitUntil(() => !pids.some(isAlive), { what: `processes ${pids.join(", ")} to be gone` });
});

netTest("bridges: a joined port gets every packet from the first on, an unjoined port none", async () => {
  await using bridges = await openTopology("bridges");
  const group = "239.1.1.1";
  const before = await linkCounters(bridges, "bystander-ns", "veth4");
  const unjoined = await send(bridges, "gen-ns", {
    interfaceAddress: address.gen,
    group,
    port: 5001,
    countPerStream: 500,
    ratePps: 0,
  });
  expect(unjoined.sent).toBe(500);
  const receiver = await startReceiver(bridges, "relay-ns", {
    interfaceAddress: address.relayIngress,
    streams: { group, port: 5001 },
    expect: 1000,
    deadlineSeconds: 10,
  });
  expect(await joinedGroups(bridges, "relay-ns", "veth1")).toEqual([group]);
  await waitUntil(
    async () => (await snoopedGroups(bridges, "bridge-a-ns", "br-a", "relay")).includes(group),
    {
      what: "br-a to have seen the join",
    },
  );
  expect(await snoopedGroups(bridges, "bridge-a-ns", "br-a", "bystander")).toEqual([]);
  await send(bridges, "gen-ns", {
    interfaceAddress: address.gen,
    group,
    port: 5001,
    countPerStream: 1000,
    ratePps: 10_000,
  });
  const result = await receiver.finished();
  expect(result.received).toBe(1000);
  expect(faultsOf(result)).toEqual(noFaults);
  // Queries and neighbour discovery reach every port: some hundred bytes each, a fraction of one stream's 1.5 MB.
  const after = await linkCounters(bridges, "bystander-ns", "veth4");
  expect(after.rx.bytes - before.rx.bytes).toBeLessThan(5000);
});

const drawn: readonly (readonly [TopologyName, string, readonly string[]])[] = [
  ["hops", "1", ["gen-ns", "relay-1-ns", "sink-ns"]],
  ["hops", "3", ["gen-ns", "relay-1-ns", "relay-2-ns", "relay-3-ns", "sink-ns"]],
  ["tree", "", ["gen-ns", "relay-ns", "sink-1-ns", "sink-2-ns", "sink-3-ns"]],
  ["converge", "", ["gen-1-ns", "gen-2-ns", "gen-3-ns", "relay-ns", "sink-ns"]],
  ["downstream", "", ["bridge-ns", "gen-ns", "relay-ns", "sink-1-ns", "sink-2-ns"]],
  ["loop", "", ["gen-ns", "relay-1-ns", "relay-2-ns", "sink-ns", "switch-ns"]],
  ["late", "", ["gen-ns", "relay-ns", "sink-ns"]],
  ["tunnel", "vxlan", ["gen-ns", "relay-1-ns", "relay-2-ns", "sink-ns"]],
];

netTest.each(drawn)("%s %s: opens with the namespaces it draws", async (name, parameter, namespaces) => {
  await using topology = await openTopology(name, ...(parameter === "" ? [] : [parameter]));
  const listed = await topology.output(namespaces[0] ?? "", ["ip", "netns", "list"]);
  const names = listed.split("\n").map((line) => line.split(" ")[0] ?? "");
  expect(names.filter((each) => each !== "").sort()).toEqual([...namespaces]);
});

netTest.each(["gre", "ipip"])("a tunnel is there, or the kernel is named that has none: %s", (kind) => {
  expect([undefined, `tunnel.sh: this kernel has no ${kind} tunnels.`]).toContain(
    whyNoTopology("tunnel", kind),
  );
});

const isRoot = process.getuid?.() === 0;
const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const nobodyMay =
  isRoot &&
  Bun.spawnSync([...asNobody, "unshare", "-mrun", "test", "-r", `${repository}/topo/lib.sh`]).exitCode === 0;
if (!nobodyMay)
  console.error("skipped: needs root, unprivileged user namespaces and a repository everyone may read");

test.skipIf(!nobodyMay).each(["chain", "bridges"])("%s: an unprivileged user gets it too", (name) => {
  const script = "ip netns exec relay-ns sh -c 'ip -brief address; ls /sys/class/net'";
  const { exitCode, stdout } = Bun.spawnSync([
    ...asNobody,
    `${repository}/topo/${name}.sh`,
    "sh",
    "-c",
    script,
  ]);
  expect(exitCode).toBe(0);
  expect(stdout.toString()).toContain(address.relayIngress);
});

test.skipIf(!nobodyMay)("where no namespaces are allowed, one sentence and exit 77", () => {
  const script = `echo 0 >/proc/sys/user/max_net_namespaces && exec ${repository}/topo/chain.sh true`;
  const { exitCode, stderr } = Bun.spawnSync([...asNobody, "unshare", "-Ur", "sh", "-c", script]);
  expect(exitCode).toBe(77);
  expect(stderr.toString()).toMatch(/^chain\.sh: this user may not create network namespaces: .*\.\n$/);
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function inNamespace(pid: number): boolean {
  return readlinkSync(`/proc/${pid}/ns/net`) !== readlinkSync("/proc/self/ns/net");
}
