// Metrics as they are used: a real Prometheus scrapes a relay under load, and reloads change rules and the address.

import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { expectEveryPacket } from "../support/accounting.ts";
import { cross } from "../support/crossing.ts";
import { executable, type RelayUnderTest, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 3 };
const egress = { group: "239.10.1.1", port: 6001, streams: 3 };
const rules = streamRules(ingress, egress);
const at = (host: string) => `metrics = "${host}"\n`;
const received =
  'mcr_rule_received_packets_total{rule="stream-0",iface="veth1",group="239.1.1.1",port="5001"}';

function carry(topology: Topology) {
  return cross(
    topology,
    { ...ingress, interfaceAddress: address.gen, ratePps: 3_000, countPerStream: 1_000, sizeBytes: 512 },
    { interfaceAddress: address.sink, streams: egress },
  );
}

/** Undefined where nothing answers. */
async function scrape(topology: Topology, host = "127.0.0.1:9477"): Promise<string | undefined> {
  const { exitCode, stdout } = await topology.run("relay-ns", ["curl", "-sSf", `http://${host}/metrics`]);
  return exitCode === 0 ? stdout : undefined;
}

async function sampleOf(topology: Topology, series: string): Promise<number> {
  const text = (await scrape(topology)) ?? "";
  const line = text.split("\n").find((each) => each.startsWith(`${series} `)) ?? "";
  return Number(line.slice(series.length + 1) || Number.NaN);
}

const QuerySchema = v.object({
  data: v.object({ result: v.array(v.object({ value: v.tuple([v.number(), v.string()]) })) }),
});

async function startPrometheus(topology: Topology, directory: string) {
  for (const program of ["prometheus", "promtool"])
    if (Bun.which(program) === null)
      throw new Error(`${program} is missing: apt install prometheus, then test again`);
  const config = join(directory, "prometheus.yml");
  await writeFile(
    config,
    "global: { scrape_interval: 500ms, scrape_timeout: 400ms }\nscrape_configs: [{ job_name: mcr, static_configs: [{ targets: ['127.0.0.1:9477'] }] }]\n",
  );
  const prometheus = topology.spawn("relay-ns", [
    "prometheus",
    `--config.file=${config}`,
    `--storage.tsdb.path=${directory}/data`,
    "--web.listen-address=127.0.0.1:9090",
  ]);
  await prometheus.waitForOutput(/Server is ready/, 30_000);
  /** The values that the query gives, of every series. */
  return async (query: string): Promise<readonly number[]> => {
    const answer = await topology.output("relay-ns", [
      ...["curl", "-sS", "--get", "http://127.0.0.1:9090/api/v1/query"],
      ...["--data-urlencode", `query=${query}`],
    ]);
    return v.parse(QuerySchema, JSON.parse(answer)).data.result.map(({ value: [, text] }) => Number(text));
  };
}

test("Prometheus scrapes a relay under load: no packet is lost, and it has the receiver's numbers", async () => {
  const directory = await mkdtemp(join(tmpdir(), "mcr-test-"));
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, `${at(":9477")}${rules}`);
  const query = await startPrometheus(topology, directory);
  await waitUntil(async () => (await query("up"))[0] === 1, { what: "the first scrape", deadlineMs: 15_000 });

  const { sent, received: got } = await carry(topology);
  expectEveryPacket({ sent, received: got, stats: await relay.stats() });
  await waitFor(
    () => query("sum(mcr_rule_received_packets_total)"),
    ([sum]) => sum === sent.sent,
    { what: `Prometheus to have ${sent.sent} packets`, deadlineMs: 15_000 },
  );
  expect(await query('mcr_rule_received_packets_total{group="239.1.1.2",port="5002"}')).toEqual([1_000]);
  expect(
    await query('mcr_output_sent_packets_total{rule="stream-1",iface="veth2",dst="239.10.1.2:6002"}'),
  ).toEqual([got.streams[1]?.received ?? Number.NaN]);
  expect(await query("sum(mcr_output_dropped_packets_total) + sum(mcr_ring_dropped_packets_total)")).toEqual([
    0,
  ]);
  expect(await query('sum(mcr_igmp_join{iface="veth1"})')).toEqual([3]);
  expect((await query("sum(mcr_worker_cpu_seconds_total)"))[0]).toBeGreaterThanOrEqual(0);
  expect(await query("mcr_config_last_reload_successful")).toEqual([1]);

  const lint = await topology.run("relay-ns", ["promtool", "check", "metrics"], {
    stdin: (await scrape(topology)) ?? "",
  });
  expect(lint).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  await rm(directory, { recursive: true, force: true });
}, 90_000);

test("a reload never sets a counter back, moves the address, and tells when it could not", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, `${at("127.0.0.1:9477")}${rules}`);
  await carry(topology);
  expect(await sampleOf(topology, received)).toBe(1_000);

  const changed = rules.replace('interface = "veth2"', 'interface = "veth2", ttl = 3');
  const file = (metrics: string, text = changed) => relay.write(`[relay]\n${metrics}${text}`);
  await file(at("127.0.0.1:9477"));
  expect(await relay.reload()).toMatchObject({ ok: true, changed: ["stream-0"], notes: [] });
  expect(await waitForValue(topology, received, 1_000)).toBe(1_000);
  await carry(topology);
  expect(await waitForValue(topology, received, 2_000)).toBe(2_000);
  expect((await relay.rule("stream-0")).packets).toBe(1_000);

  await file(at("127.0.0.1:9477"), changed.replace("port = 5001", "port = 0"));
  expect(await relay.reload()).toMatchObject({ ok: false });
  expect(await waitForValue(topology, "mcr_config_last_reload_successful", 0)).toBe(0);

  const other = topology.spawn("relay-ns", ["socat", "TCP-LISTEN:9478,bind=127.0.0.1,fork", "STDOUT"]);
  await waitUntil(
    async () => (await topology.output("relay-ns", ["cat", "/proc/net/tcp"])).includes("0100007F:2506"),
    {
      what: "socat to listen on 9478",
    },
  );
  await file(at("127.0.0.1:9478"));
  expect((await relay.reload()).notes).toEqual([
    "cannot serve metrics at 127.0.0.1:9478: the port is in use (ss -tlnp shows by whom). Stop that program, or set another address: [relay] metrics; metrics stay as they were",
  ]);
  expect(await scrape(topology)).toContain("mcr_build_info");
  other.kill("SIGKILL");
  await other.exited;

  await file(at("[::1]:9479"));
  expect((await relay.reload()).notes).toEqual([]);
  expect(await scrape(topology)).toBeUndefined();
  expect(await scrape(topology, "[::1]:9479")).toContain("mcr_build_info");
  await file("");
  await relay.reload();
  expect(await scrape(topology, "[::1]:9479")).toBeUndefined();
}, 90_000);

/** An answer may be 200 ms old. */
function waitForValue(topology: Topology, series: string, value: number): Promise<number> {
  return waitFor(
    () => sampleOf(topology, series),
    (seen) => seen === value,
    { what: `${series} to be ${value}` },
  );
}

test("a port that is taken at the start is one sentence, and nothing is relayed", async () => {
  await using topology = await openTopology("chain");
  await using first: RelayUnderTest = await startRelay(topology, `${at(":9477")}${rules}`);
  const text = await Bun.file(first.file).text();
  await writeFile(first.file, text.replace("mcr.sock", "second.sock"));
  const second = await topology.run("relay-ns", [executable, "run", first.file]);
  expect(second).toMatchObject({
    exitCode: 1,
    stdout: "",
    stderr:
      "mcr: cannot serve metrics at 127.0.0.1:9477: the port is in use (ss -tlnp shows by whom). Stop that program, or set another address: [relay] metrics\n",
  });
}, 30_000);
