// Ten streams of mixed sizes through every pair of settings: profile, fanout, workers, exclusive, path, offloads. The
// combinations are chosen so that any two values meet in one; each must carry every packet, and its counters agree.

import { expect, test } from "bun:test";
import { EgressPath, Fanout, Profile } from "../../src/config/schema.ts";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket, sentInTurn } from "../support/accounting.ts";
import { turnOffloadsOff } from "../support/link.ts";
import { coverPairs, pairsOf } from "../support/pairwise.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver } from "../support/traffic.ts";
import { mayReorder, variantName } from "../support/variant.ts";

const streams = 10;
const ingress = { group: "239.1.1.1", port: 5001, streams };
const egress = { group: "239.10.1.1", port: 6001, streams };

/** 1,000 packets of each stream each: one at a time, and 32 at once in runs that change their size. */
const phases: readonly (Partial<SendOptions> & { readonly ratePps: number })[] = [
  { burst: 1, sizeBytes: [64, 1400, 1472], ratePps: 20_000 },
  { burst: 32, sizeBytes: [1400, 1400, 1400, 1472, 1472, 64, 64, 200], ratePps: 30_000 },
];
const countPerPhase = 1_000;

const combinations = Profile.options.flatMap((profile) =>
  Fanout.options.flatMap((fanout) =>
    [1, 2, 4, 8].flatMap((workers) =>
      [false, true].flatMap((isExclusive) =>
        EgressPath.options
          .filter((path) => path !== "auto")
          .flatMap((path) =>
            (["on", "off"] as const).map((offloads) => ({
              profile,
              fanout,
              workers,
              isExclusive,
              path,
              offloads,
            })),
          ),
      ),
    ),
  ),
);
type Combination = (typeof combinations)[number];
const chosen = coverPairs(combinations);

test("the combinations chosen hold every pair of values", () => {
  expect(combinations).toHaveLength(3 * 4 * 4 * 2 * 2 * 2);
  const pairs = new Set(chosen.flatMap(pairsOf));
  expect(pairs.size).toBe(118); // 3*4 + 3*4 + 3*(2+2+2) + 4*4 + 4*(2+2+2) + 4*(2+2+2) + 2*2 + 2*2 + 2*2
  expect(pairs).toEqual(new Set(combinations.flatMap(pairsOf)));
  expect(chosen.length).toBeLessThanOrEqual(20); // 4 * 4 at least
});

/** All streams by rules of their own. */
function rules({ isExclusive, path }: Combination): string {
  return Array.from({ length: streams }, (_, i) =>
    ruleText({
      name: `stream-${i}`,
      ingress: `interface = "veth1", group = "${offsetAddress(ingress.group, i)}", port = ${ingress.port + i}, exclusive = ${isExclusive}`,
      egress: [
        `interface = "veth2", group = "${offsetAddress(egress.group, i)}", port = ${egress.port + i}, path = "${path}"`,
      ],
    }),
  ).join("\n");
}

function nameOf({ profile, fanout, workers, isExclusive, path, offloads }: Combination): string {
  const exclusive = isExclusive ? "exclusive" : "shared";
  return `${profile}, fanout ${fanout}, ${workers} workers, ${exclusive}, ${path} path, offloads ${offloads}`;
}

if (variantName !== undefined)
  // Under a variant of the whole suite they would not be what their names say.
  test.skip(`${chosen.length} combinations; skipped: the environment asks for ${variantName}`, () => {});
else
  for (const combination of chosen)
    test(`${nameOf(combination)}: every packet once`, async () => {
      const { profile, fanout, workers, isExclusive, path, offloads } = combination;
      await using topology = await openTopology("chain");
      if (offloads === "off") await turnOffloadsOff(topology);
      const settings = `profile = "${profile}"\nfanout = "${fanout}"\n`;
      await using relay = await startRelay(topology, rules(combination), { workers, settings });
      const receiver = await startReceiver(topology, "sink-ns", {
        interfaceAddress: address.sink,
        streams: egress,
        expect: phases.length * countPerPhase * streams,
        deadlineSeconds: 15,
      });
      const sent = [];
      for (const [i, phase] of phases.entries())
        sent.push(
          await send(topology, "gen-ns", {
            ...{ ...ingress, ...phase, interfaceAddress: address.gen },
            ...{ countPerStream: countPerPhase, firstSequence: i * countPerPhase },
          }),
        );
      const received = await receiver.finished();
      const stats = await relay.stats();
      const isOrdered = !mayReorder({ fanout });
      expectEveryPacket({ sent: sentInTurn(sent), received, stats, isOrdered });
      expect(received.checksum_errors).toBe(0);

      // And it ran as it is called.
      const log = `mode ${fanout}, rings for ${workers} workers, profile ${profile}, `;
      expect(relay.process.stderr).toContain(log);
      for (const rule of await relay.rules()) {
        expect(rule.exclusive).toBeOneOf(isExclusive ? ["tcx", "nft"] : ["off"]);
        const [only] = rule.egress;
        expect(only).toMatchObject({ path, path_reason: null });
        expect(only?.frame_packets).toBe(path === "frame" ? rule.packets : 0);
      }
    }, 30_000);
