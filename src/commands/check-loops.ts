// What `mcr check` warns of: rules whose packets would come back, because the interfaces that they go out of and come in
// on look like one network on this host. Without evidence of that, the same group out of another interface is the
// normal use, and there is nothing to say. Pure.
import { destinationOf } from "../config/destination.ts";
import { findReturns } from "../config/returns.ts";
import type { Rule } from "../config/schema.ts";
import { loopCures } from "../net/loops.ts";
import { type AttachmentReader, whyOneNetwork } from "../net/one-network.ts";

/** One for each pair of interfaces, with the first rule that it is about. */
export function loopWarnings(rules: readonly Rule[], attachmentOf: AttachmentReader): readonly string[] {
  if (!mayHaveOneNetwork(rules, attachmentOf)) return [];
  const { returns } = findReturns(rules, (name) => attachmentOf(name).address);
  const pairs = new Map<string, { readonly first: string; others: number }>();
  for (const { taker, feeder, egress } of returns) {
    const [from, to] = [rules[feeder], rules[taker]];
    const sender = from?.egress[egress];
    if (!from || !to || !sender || sender.interface === to.ingress.interface) continue;
    const key = JSON.stringify([sender.interface, to.ingress.interface]);
    const known = pairs.get(key);
    if (known) {
      known.others += 1;
      continue;
    }
    const why = whyOneNetwork(sender.interface, to.ingress.interface, attachmentOf);
    const where = `egress ${sender.interface} ${destinationOf(from, sender)}`;
    const what = `rule "${from.name}": ${where} sends what rule "${to.name}" takes on ${to.ingress.interface}`;
    pairs.set(key, {
      first: why === undefined ? "" : `${what}, and they look like one network: ${why}`,
      others: 0,
    });
  }
  return [...pairs.values()]
    .filter(({ first }) => first !== "")
    .map(({ first, others }) => {
      const more = others === 0 ? "" : ` (and ${others.toLocaleString("en-US")} more like this)`;
      return `${first}${more}; what comes back is dropped as looped: ${loopCures.returned}`;
    });
}

/** Most files name a few interfaces, and most hosts have a network for each: then their rules need not be compared. */
function mayHaveOneNetwork(rules: readonly Rule[], attachmentOf: AttachmentReader): boolean {
  const from = [...new Set(rules.map(({ ingress }) => ingress.interface))];
  const to = [...new Set(rules.flatMap(({ egress }) => egress.map((each) => each.interface)))];
  if (from.length * to.length > pairsMax) return true;
  return from.some((a) => to.some((b) => a !== b && whyOneNetwork(a, b, attachmentOf) !== undefined));
}

/** As many interfaces on both sides as a relay captures from. */
const pairsMax = 256 * 256;
