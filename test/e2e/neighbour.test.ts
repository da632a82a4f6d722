// A unicast egress whose host, or the gateway to it, does not answer is failing, and says why; it goes on sending, and
// is active again when somebody answers, with every packet from then on.

import { expect, test } from "bun:test";
import { expectIntact } from "../support/accounting.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const timeoutMs = 40_000;
const stream = { group: "239.1.1.1", port: 5001 };
const metricsAddress = "127.0.0.1:9477";

function ruleTo(host: string): string {
  return ruleText({
    name: "x",
    ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
    egress: [`interface = "veth2", address = "${host}"`, 'interface = "veth2", group = "239.10.1.1"'],
  });
}

async function waitForEgress(relay: RelayUnderTest, state: "active" | "failing") {
  const { egress } = await waitFor(
    () => relay.rule("x"),
    (rule) => rule.egress[0]?.state === state,
    { what: `the egress to be ${state}`, deadlineMs: 15_000, intervalMs: 50 },
  );
  return egress;
}

async function ip(topology: Topology, namespace: string, words: string): Promise<void> {
  await topology.output(namespace, ["ip", ...words.split(" ")]);
}

test(
  "a host that does not answer makes its egress failing, and one that then does makes it active",
  async () => {
    await using topology = await openTopology("chain");
    const settings = `metrics = "${metricsAddress}"\n`;
    await using relay = await startRelay(topology, ruleTo("10.0.1.9"), { workers: 1, settings });
    const sender = await startSender(topology, "gen-ns", {
      ...{ ...stream, interfaceAddress: address.gen, ratePps: 500, unbounded: true },
    });
    sender.go();
    const events = topology.spawn(
      "relay-ns",
      ["curl", "--silent", "--no-buffer", "--unix-socket"].concat([
        "/run/mcr/mcr.sock",
        "http://mcr/v1/events",
      ]),
    );
    await events.waitForOutput("connected", 5_000);

    const [failing, group] = await waitForEgress(relay, "failing");
    const reason =
      "10.0.1.9 does not answer ARP on veth2; it is asked again with every packet (ip neigh show dev veth2)";
    expect(failing).toMatchObject({ reason });
    expect(group).toMatchObject({ state: "active", reason: null });
    await events.waitForOutput(`"state":"failing"`, 5_000);
    const metrics = await topology.output("relay-ns", [
      "curl",
      "--silent",
      `http://${metricsAddress}/metrics`,
    ]);
    expect(metrics).toContain(
      'mcr_output_state{rule="x",output="1",iface="veth2",dst="10.0.1.9:5001",state="failing"} 1\n',
    );
    const { stdout: shown } = await relay.run("show", "interfaces");
    expect(shown).toContain(`1 of 2 egresses failing: ${reason}\n`);
    const { stdout: explained } = await relay.run("explain", "x", "--seconds", "1");
    expect(explained).toMatch(/BROKEN {2}neighbour {3}10\.0\.1\.9 does not answer ARP on veth2/);
    // It goes on sending: that is what asks again.
    const sentBefore = failing?.sent_packets ?? 0;
    await waitFor(
      async () => (await relay.rule("x")).egress[0]?.sent_packets ?? 0,
      (sent) => sent > sentBefore,
      { what: "the failing egress to send" },
    );

    await ip(topology, "sink-ns", "address add 10.0.1.9/24 dev veth3");
    const [active] = await waitForEgress(relay, "active");
    expect(active).toMatchObject({ reason: null });
    expect(relay.process.stderr).toContain("egress veth2 10.0.1.9:5001: active, path socket: unicast");
    await sender.stop();
    // From here on all of it arrives.
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: { group: "10.0.1.9", port: stream.port },
      unicast: true,
      anyStream: true,
      deadlineSeconds: 15,
      expect: 1_000,
    });
    const more = await startSender(topology, "gen-ns", {
      ...{ ...stream, interfaceAddress: address.gen, ratePps: 1_000, countPerStream: 1_000 },
    });
    more.go();
    await more.finished();
    const result = await receiver.finished();
    expect(result.received).toBe(1_000);
    expectIntact(result);
  },
  timeoutMs,
);

test(
  "a gateway that does not answer is named, and the host behind it",
  async () => {
    await using topology = await openTopology("chain");
    await ip(topology, "relay-ns", "route add 192.168.7.0/24 via 10.0.1.254 dev veth2");
    await using relay = await startRelay(topology, ruleTo("192.168.7.7"), { workers: 1 });
    const sender = await startSender(topology, "gen-ns", {
      ...{ ...stream, interfaceAddress: address.gen, ratePps: 500, unbounded: true },
    });
    sender.go();
    const [failing] = await waitForEgress(relay, "failing");
    expect(failing?.reason).toStartWith(
      "the gateway 10.0.1.254 to 192.168.7.7 does not answer ARP on veth2; it is asked again",
    );
    await ip(topology, "sink-ns", "address add 10.0.1.254/24 dev veth3");
    await waitForEgress(relay, "active");
    await sender.stop();
  },
  timeoutMs,
);

test(
  "a host that was never sent to, and one that answers, are active",
  async () => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, `${ruleTo("10.0.1.9")}${answering}`, { workers: 1 });
    const sender = await startSender(topology, "gen-ns", {
      ...{ group: "239.1.1.2", port: 5002, interfaceAddress: address.gen, ratePps: 500, unbounded: true },
    });
    sender.go();
    const began = performance.now();
    const states = async () =>
      (await relay.rules()).map(({ egress }) => egress.map(({ state }) => state).join(" "));
    // Two looks make an egress failing; these are four seconds of them.
    await waitFor(
      async () => {
        expect(await states()).toEqual(["active active", "active"]);
        return performance.now() - began;
      },
      (elapsedMs) => elapsedMs > 4_000,
      { what: "four looks", deadlineMs: 15_000, intervalMs: 200 },
    );
    expect((await relay.rule("y")).egress[0]?.sent_packets).toBeGreaterThan(100);
    await sender.stop();
  },
  timeoutMs,
);

const answering = ruleText({
  name: "y",
  ingress: 'interface = "veth1", group = "239.1.1.2", port = 5002',
  egress: [`interface = "veth2", address = "${address.sink}"`],
});
