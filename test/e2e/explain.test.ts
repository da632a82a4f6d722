// `mcr explain` names the broken link: each fault is made on purpose in a topology, under traffic, and must be found as
// what it is, with the command that cures it.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { executable, type RelayUnderTest, ruleText, socketOf, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { type Sender, type SendOptions, startSender } from "../support/traffic.ts";
import { variant } from "../support/variant.ts";

const timeoutMs = 30_000;
const stream = { group: "239.1.1.1", port: 5001 };

const LinkSchema = v.object({
  link: v.string(),
  verdict: v.string(),
  egress: v.nullable(v.string()),
  text: v.string(),
  cure: v.nullable(v.string()),
});
const ExplanationSchema = v.object({
  schema: v.literal("explain/1"),
  rule: v.string(),
  running: v.boolean(),
  broken: v.nullable(LinkSchema),
  links: v.array(LinkSchema),
});

const usual = ruleText({
  name: "x",
  ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
  egress: ['interface = "veth2", group = "239.10.1.1"'],
});
const to = (egress: string) =>
  ruleText({
    name: "x",
    ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
    egress: [egress],
  });
const from = (ingress: string) => ruleText({ name: "x", ingress, egress: ['interface = "veth2"'] });

async function sending(topology: Topology, options: Partial<SendOptions> = {}): Promise<Sender> {
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...stream, interfaceAddress: address.gen, ratePps: 500, unbounded: true },
    ...options,
  });
  sender.go();
  return sender;
}

async function explained(relay: RelayUnderTest, seconds = 1) {
  const { exitCode, stdout, stderr } = await relay.run("explain", "x", "--json", "--seconds", `${seconds}`);
  expect(stderr).toBe("");
  return { exitCode, ...v.parse(ExplanationSchema, JSON.parse(stdout)) };
}

/** In relay-ns, or another namespace. */
function ip(topology: Topology, words: string, namespace = "relay-ns"): Promise<string> {
  return topology.output(namespace, words.split(" "));
}

interface Fault {
  readonly name: string;
  readonly rule: string;
  /** Null: nobody does. */
  readonly sends?: Partial<SendOptions> | null;
  /** Before the relay starts, with traffic already there. */
  readonly before?: (topology: Topology) => Promise<unknown>;
  /** While it relays. */
  readonly after?: (topology: Topology) => Promise<unknown>;
  readonly link: string;
  readonly text: RegExp;
  readonly cure: RegExp;
  /** Packets pass all the same. */
  readonly isWarning?: boolean;
}

const faults: readonly Fault[] = [
  {
    name: "the ingress interface is missing",
    rule: from('interface = "eth9", group = "239.1.1.1", port = 5001'),
    link: "interface",
    text: /^interface eth9 does not exist$/,
    cure: /^ip link$/,
  },
  {
    name: "the ingress interface is down",
    rule: usual,
    before: (topology) => ip(topology, "ip link set veth1 down"),
    link: "interface",
    text: /^interface veth1 is down$/,
    cure: /^ip link set veth1 up$/,
  },
  {
    name: "the ingress interface has no carrier",
    rule: usual,
    sends: null,
    before: (topology) => ip(topology, "ip link set veth0 down", "gen-ns"),
    link: "interface",
    text: /^interface veth1 has no carrier$/,
    cure: /cable/,
  },
  {
    name: "the group cannot be joined",
    rule: usual,
    before: (topology) => ip(topology, "sysctl -q -w net.ipv4.igmp_max_memberships=0"),
    link: "membership",
    text: /239\.1\.1\.1 .*ENOBUFS/,
    cure: /igmp_max_memberships/,
  },
  {
    name: "the right group comes to another port",
    rule: from('interface = "veth1", group = "239.1.1.1", port = 5009'),
    link: "wire",
    text: /^right group, wrong port: 239\.1\.1\.1:5001 from 10\.0\.0\.1 on veth1/,
    cure: /port = 5001$/,
  },
  {
    name: "another source sends",
    rule: from('interface = "veth1", group = "239.1.1.1", port = 5001, source = ["10.0.0.99"]'),
    link: "wire",
    text: /^right group and port, wrong source: 239\.1\.1\.1:5001 from 10\.0\.0\.1/,
    cure: /source = \["10\.0\.0\.1"\]/,
  },
  {
    name: "the egress interface is missing",
    rule: to('interface = "eth9"'),
    link: "egress",
    text: /^interface eth9 does not exist$/,
    cure: /^ip link$/,
  },
  {
    name: "the egress interface has no address",
    rule: usual,
    before: (topology) => ip(topology, "ip address flush dev veth2"),
    link: "egress",
    text: /^failed: interface veth2 has no IPv4 address to send from$/,
    cure: /^ip address add ADDRESS\/24 dev veth2$/,
  },
  {
    name: "packets that only frames can carry are larger than the MTU of the egress",
    rule: to('interface = "veth2", ttl = "decrement"'),
    sends: { ttl: 8 },
    before: (topology) => ip(topology, "ip link set veth2 mtu 600"),
    link: "sent",
    text: /\(EMSGSIZE\): the MTU of veth2 is 600$/,
    cure: /^ip link set veth2 mtu 1052, or smaller packets at the sender, or a ttl that is a number/,
  },
  {
    name: "the egress is full",
    rule: usual,
    after: (topology) => ip(topology, "tc qdisc replace dev veth2 root tbf rate 1mbit burst 4kb limit 8kb"),
    link: "sent",
    text: /^egress full: \d+ of \d+ packets/,
    cure: /tc -s qdisc show dev veth2/,
  },
  {
    name: "no route leads to the host",
    rule: to('interface = "veth2", address = "192.168.9.9", port = 6001'),
    link: "route",
    text: /^no route to 192\.168\.9\.9 on veth2/,
    cure: /ip route add 192\.168\.9\.9\/32 dev veth2/,
  },
  {
    name: "the host does not answer ARP",
    rule: to('interface = "veth2", address = "10.0.1.77", port = 6001'),
    link: "neighbour",
    text: /^10\.0\.1\.77 does not answer ARP on veth2/,
    cure: /ip neigh show dev veth2/,
  },
  {
    name: "the TTL ends at the first router",
    rule: to('interface = "veth2", address = "192.168.7.7", port = 6001, ttl = 1'),
    before: (topology) => ip(topology, "ip route add 192.168.7.0/24 via 10.0.1.2 dev veth2"),
    link: "ttl",
    text: /^ttl is 1, and 192\.168\.7\.7 lies behind the router 10\.0\.1\.2/,
    cure: /ttl = 64/,
  },
  {
    name: "the TTL is used up on the way",
    rule: to('interface = "veth2", ttl = "decrement"'),
    sends: { ttl: 1 },
    link: "ttl",
    text: /came with a TTL of 1/,
    cure: /larger TTL/,
  },
  {
    name: "the MTU of the egress is too small",
    rule: usual,
    before: (topology) => ip(topology, "ip link set veth2 mtu 600"),
    link: "mtu",
    text: /^packets of 1052 bytes leave veth2 as IP fragments, its MTU is 600/,
    cure: /ip link set veth2 mtu 1052/,
    isWarning: true,
  },
];

describe("mcr explain names the broken link when", () => {
  test.each(faults.map((fault) => [fault.name, fault] as const))(
    "%s",
    async (_, { rule, sends, before, after, link, text, cure, isWarning = false }) => {
      await using topology = await openTopology("chain");
      const sender = sends === null ? null : await sending(topology, { sizeBytes: 1024, ...sends });
      await before?.(topology);
      await using relay = await startRelay(topology, rule);
      await after?.(topology);
      const found = await explained(relay);
      expect(found.broken).toMatchObject({ link, verdict: isWarning ? "warn" : "broken" });
      expect(found.broken?.text).toMatch(text);
      expect(found.broken?.cure ?? "").toMatch(cure);
      expect(found.exitCode).toBe(isWarning ? 0 : 1);
      // Everything before it was looked at, and found in order.
      expect(
        found.links
          .slice(
            0,
            found.links.findIndex((each) => each.link === link && each.cure !== null),
          )
          .map(({ verdict }) => verdict),
      ).not.toContain("broken");
      await sender?.stop();
    },
    timeoutMs,
  );

  test(
    "the group is in another VLAN",
    async () => {
      await using topology = await openTopology("vlan");
      const sender = await sending(topology, { interfaceAddress: "10.5.0.1" });
      await using relay = await startRelay(topology, usual);
      const { broken } = await explained(relay);
      expect(broken).toMatchObject({ link: "wire", verdict: "broken" });
      expect(broken?.text).toMatch(
        /^right group, wrong VLAN: 239\.1\.1\.1:5001 from 10\.5\.0\.1 in VLAN 5 on veth1/,
      );
      expect(broken?.cure).toContain('interface = "veth1.5"');
      await sender.stop();
    },
    timeoutMs,
  );

  test(
    "a switch that snoops has no querier, and when it has one but nobody sends",
    async () => {
      await using topology = await openTopology("bridges");
      await using relay = await startRelay(topology, usual);
      await ip(topology, "ip link set br-a type bridge mcast_query_interval 50", "bridge-a-ns");
      const silent = await explained(relay, 3);
      expect(silent.broken).toMatchObject({ link: "wire", verdict: "broken" });
      expect(silent.broken?.text).toMatch(
        /^nothing of 239\.1\.1\.1:5001 arrives on veth1 .* its sender is silent/,
      );
      expect(silent.links.find(({ link }) => link === "querier")?.text).toMatch(/^last query \ds ago from /);
      // Without a querier this switch forgets who has joined, and floods nothing. This mcr still remembers that one
      // has asked a moment ago; one that was started since then has never heard it.
      await ip(topology, "ip link set br-a type bridge mcast_querier 0", "bridge-a-ns");
      await ip(topology, "bridge link set dev relay mcast_flood off", "bridge-a-ns");
      await relay.stop();
      await using other = await startRelay(topology, usual);
      const sender = await sending(topology);
      const { broken } = await explained(other);
      expect(broken).toMatchObject({ link: "querier", verdict: "broken" });
      expect(broken?.cure).toContain("mcast_querier 1");
      await sender.stop();
    },
    timeoutMs,
  );
});

test(
  "when all is well it says so, with the figures it has seen",
  async () => {
    await using topology = await openTopology("chain");
    const sender = await sending(topology);
    await using relay = await startRelay(topology, usual);
    const found = await explained(relay);
    expect(found).toMatchObject({ exitCode: 0, running: true, broken: null });
    expect(found.links.map(({ link }) => link)).toEqual([
      ...["rule", "interface", "loop", "membership", "querier", "wire", "match", "ring"],
      ...(variant.isExclusive ? ["exclusive"] : []),
      ...["egress", "ttl", "sent", "reader", "mtu"],
    ]);
    const text = await relay.run("explain", "x", "--seconds", "1");
    expect(text.stdout).toContain('rule "x"\nok      rule        "x" runs, active\n');
    expect(text.stdout).toMatch(
      /\nok {6}wire {8}239\.1\.1\.1:5001 from 10\.0\.0\.1: \d+ packets a second of \d+ bytes\n/,
    );
    expect(text.stdout).toEndWith("\nno link is broken\n");
    await sender.stop();
  },
  timeoutMs,
);

test(
  "without a running mcr it looks at what can be seen, given a file, and says how to start it otherwise",
  async () => {
    await using topology = await openTopology("chain");
    const sender = await sending(topology);
    await using relay = await startRelay(topology, usual);
    await relay.stop();
    const alone = await relay.run("explain", "x");
    expect(alone.exitCode).toBe(69);
    expect(alone.stderr).toMatch(/^mcr: no mcr answers at .*: start it: mcr run FILE/);
    await sender.stop();
    const { exitCode, stdout } = await relay.run("explain", "x", relay.file, "--json", "--seconds", "1");
    const found = v.parse(ExplanationSchema, JSON.parse(stdout));
    expect(found.running).toBe(false);
    expect(found.links.find(({ link }) => link === "wire")?.text).toMatch(/nobody has joined it either$/);
    expect(exitCode).toBe(0);
  },
  timeoutMs,
);

test(
  "who may not ask the running mcr is told so",
  async () => {
    await using topology = await openTopology("chain");
    await using _ = await startRelay(topology, usual);
    const refused = await topology.run("relay-ns", [
      ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"],
      ...[executable, "explain", "x", "--socket", socketOf("relay-ns")],
    ]);
    expect(refused.exitCode).toBe(77);
    expect(refused.stderr).toMatch(
      /^mcr: no permission to ask the mcr at .*: run as root, or as a member of the group/,
    );
  },
  timeoutMs,
);

test(
  "a rule that does not run is named, with those that do",
  async () => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, usual);
    const { exitCode, stderr } = await relay.run("explain", "y");
    expect([exitCode, stderr]).toEqual([78, 'mcr explain: no rule "y" runs: there are x\n']);
  },
  timeoutMs,
);
