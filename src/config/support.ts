// What the rule file can say and the data plane cannot do yet: one line per restriction. Called by parse.ts.
// Such a value is refused by name, never accepted and ignored. To lift a restriction, delete its line.
import type { Draft } from "./draft.ts";
import { type Path, type Problem, quote, valuesAt } from "./problem.ts";

interface Restriction {
  readonly path: Path;
  /** Of a list, every element is asked. */
  readonly refuses: (value: unknown) => boolean;
  /** What to do until then. */
  readonly instead: string;
}

const every = (): boolean => true;
const isIpv6 = (value: unknown): boolean => typeof value === "string" && value.includes(":");
const is =
  (...words: readonly unknown[]) =>
  (value: unknown): boolean =>
    words.includes(value);

const ingress = (...keys: Path): Path => ["rules", "*", "ingress", ...keys];
const egress = (...keys: Path): Path => ["rules", "*", "egress", "*", ...keys];

const restrictions: readonly Restriction[] = [
  { path: ingress("group"), refuses: isIpv6, instead: "give an IPv4 group" },
  // Once it is: an egress then needs a target of its own, as there is no group to keep.
  { path: ingress("address"), refuses: every, instead: "give a group" },
  { path: ingress("source"), refuses: isIpv6, instead: "give an IPv4 address" },
  { path: ingress("vlan"), refuses: every, instead: "name the VLAN interface, such as eth0.5" },
  { path: ingress("protocol"), refuses: is("esp"), instead: 'give "udp"' },
  { path: egress("group"), refuses: isIpv6, instead: "give an IPv4 group" },
  { path: egress("address"), refuses: isIpv6, instead: "give an IPv4 address" },
  { path: egress("source"), refuses: isIpv6, instead: "give an IPv4 address" },
];

export function checkSupport(draft: Draft): Problem[] {
  const problems: Problem[] = [];
  for (const { path: pattern, refuses, instead } of restrictions) {
    for (const [path, value] of valuesAt(draft, pattern)) {
      // null is a mistake that is reported already.
      for (const one of Array.isArray(value) ? value : [value])
        if (one !== null && refuses(one))
          problems.push({
            path: inFile(path),
            text: `${subject(refuses, one)}is not supported yet: ${instead}`,
          });
    }
  }
  return problems;
}

/** A key of which nothing is supported is named by its path alone: another value would be refused too. */
function subject(refuses: Restriction["refuses"], value: unknown): string {
  return refuses === every ? "" : `${quote(value)} `;
}

/** The list is `rules` in a draft and `rule` in the file. */
function inFile(path: Path): Path {
  return path[0] === "rules" ? ["rule", ...path.slice(1)] : path;
}
