// A rule as TOML, as people write it: what is at its default is left out. What it writes reads back as the same rule.
import type { Egress, Rule } from "./schema.ts";

export function formatRule({ name, ingress, egress }: Rule): string {
  const { exclusive, protocol, allow_link_local, ...from } = ingress;
  const given = {
    ...from,
    ...(exclusive ? { exclusive } : {}),
    ...(protocol === "udp" ? {} : { protocol }),
    ...(allow_link_local ? { allow_link_local } : {}),
  };
  const egresses = egress.map((each) => formatTable(withoutDefaults(each)));
  const list = egresses.length === 1 ? `[${egresses[0]}]` : `[\n${egresses.map((each) => `  ${each},\n`).join("")}]`;
  return `[[rule]]\nname    = ${JSON.stringify(name)}\ningress = ${formatTable(given)}\negress  = ${list}\n`;
}

function withoutDefaults({ ttl, source, source_port, path, dscp, ...target }: Egress) {
  return {
    ...target,
    ...(ttl === (target.address === undefined ? 1 : 64) ? {} : { ttl }),
    ...(source === "interface" ? {} : { source }),
    ...(source_port === "auto" ? {} : { source_port }),
    ...(path === "auto" ? {} : { path }),
    ...(dscp === 0 ? {} : { dscp }),
  };
}

function formatTable(values: Readonly<Record<string, unknown>>): string {
  const pairs = Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return `{ ${pairs.join(", ")} }`;
}
