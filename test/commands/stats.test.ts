// `mcr stats`: every counter in the text, and its JSON.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { formatStats, statsCommand } from "../../src/commands/stats.ts";
import { StatsSchema } from "../../src/control/protocol.ts";
import { stats } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

describe("mcr stats", () => {
  test("shows totals, interfaces with every drop reason, workers, rules with their egresses, and IGMP", () => {
    expect(formatStats(stats)).toMatchInlineSnapshot(`
      "TOTAL    PACKETS  MATCHED       BYTES  DROPPED
      ingress  1234667  1234567  1264196608        5
      egress   2469067           2528324608       67

      INTERFACE  PACKETS  MATCHED       BYTES  DROPPED  REASON
      eth0       1234667  1234567  1264196608        1  ring
                                                    90  no_match
                                                     5  tagged
                                                     2  malformed
                                                     0  truncated
                                                     2  bad_checksum
                                                     0  fragment_late
                                                     0  fragment_overlap
                                                     0  fragment_full
                                                     0  fragment_malformed
                                                     0  other_host
                                                     0  looped

      DEVICE  DROPPED  ERRORS  QDISC  QDISC DROPPED  BACKLOG
      eth1          3       0  tbf             7991       12
      wg0           0       0  -                  -        -

      WORKER  CPU  LOAD %  MATCHED     SENT  GATHER s  SEND s
           0    0       0   617283  1234533       0.4     2.6
           1    1    12.5   617284  1234534       0.4     2.6

      WORKER  WAKEUPS  BLOCKS  SENDS  RUNS  RUN PACKETS
           0     1000    1200   5000  4000        32000
           1     1000    1200   5000  4000        32000

      RULE      INGRESS, → EGRESS                        PACKETS       BYTES  DROPPED  REASON
      studio-a  eth0 239.1.1.1:5001                      1234567  1264196608
                → eth1 239.10.1.1:6001                   1234567  1264196608        0
                → wg0 10.100.0.2:6001                    1234500  1264196608       60  full
                                                                                    7  error
      wall      eth9 239.1.1.1-239.1.1.50:5001-5050            0           0
                → eth1 239.10.1.1-239.10.1.50:6001-6050        0           0        0

      RTP INGRESS  PACKETS  MISSING  REORDERED  DUPLICATE
      studio-a     1234559       12          3          1

      ADDED LATENCY  SAMPLES  P50 µs  P99 µs  MAX µs
      all rules         1300     600    1040  2345.7
      studio-a          1200   612.3    1050  2345.7

      igmp: attempted=5 succeeded=5 failed=0 active_groups=5
      "
    `);
  });

  test("tells how many of the ring's drops the kernel could not describe", () => {
    const interfaces = stats.interfaces.map((each) => ({ ...each, undescribed: 1 }));
    expect(formatStats({ ...stats, interfaces })).toMatch(/^eth0 .* 1 {2}ring \(1 undescribed\)$/m);
  });

  test("fits 100 columns with ranges and large counters", () => {
    const [first, ...others] = stats.rules;
    const [interfaceStats] = stats.interfaces;
    if (!first || !interfaceStats) throw new Error("expected a rule and an interface");
    const large = 123_456_789_012_345;
    const text = formatStats(
      {
        ...stats,
        interfaces: [{ ...interfaceStats, packets: large, bytes: large }],
        rules: [{ ...first, packets: large, bytes: large }, ...others],
      },
      100,
    );
    const widths = text.split("\n").map((line) => Bun.stringWidth(line));
    expect(Math.max(...widths)).toBeLessThanOrEqual(100);
  });

  test("never wraps a number, however large", () => {
    const large = Number.MAX_SAFE_INTEGER;
    const workers = stats.workers.map((worker) => ({
      ...worker,
      wakeups: large,
      blocks: large,
      sends: large,
      runs: large,
    }));
    const text = formatStats({ ...stats, workers });
    expect(text.match(new RegExp(String(large), "g"))).toHaveLength(8);
  });

  test("leaves out what there is none of", () => {
    const text = formatStats({ ...stats, interfaces: [], rules: [] });
    expect(text).not.toContain("INTERFACE");
    expect(text).not.toContain("RULE");
    expect(text).not.toContain("\n\n\n");
  });

  test("asks the running mcr", async () => {
    const { exitCode, stdout } = await runRemote(statsCommand, {});
    expect(exitCode).toBe(0);
    expect(stdout).toBe(formatStats(stats));
  });

  test("--json prints the answer as it came", async () => {
    const newer = { ...stats, new_in_a_later_version: 1 };
    const { exitCode, stdout } = await runRemote(statsCommand, { stats: () => newer }, { json: true });
    expect(exitCode).toBe(0);
    expect(stdout).toBe(`${JSON.stringify({ schema: "/v1/stats", ...newer }, null, 2)}\n`);
    expect(v.parse(StatsSchema, JSON.parse(stdout))).toEqual(stats);
  });

  test("without a running mcr ends with 69", async () => {
    expect((await runRemote(statsCommand, null)).exitCode).toBe(69);
  });
});
