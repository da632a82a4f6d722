// The text that `mcr init` and `mcr scan --toml` write: a head that teaches the format, and rules with a comment each.
import { formatRule } from "../config/format.ts";
import type { PlannedRule } from "./init-plan.ts";

/** Begins a new rule file; what it shows are comments, so nothing of it runs. */
export const fileHeader = `# Rules of mcr, the multicast relay: which streams are taken, and where they go.
# mcr check FILE says every mistake with its line; mcr run FILE relays;
# mcr reload reads the file again and changes only what differs.
#
# A rule has a name of its own, one ingress and at least one egress:
#   ingress  interface, group, port (left out: every port),
#            source = ["10.0.0.1"] (left out: any sender)
#   egress   interface, group or address (left out: the same group),
#            port (left out: the same), ttl (groups: 1)
# Ranges pair up one to one: group = "239.1.1.1-239.1.1.50" with
# port = "5001-5050" is 50 streams in one rule.
`;

export function formatPlanned({ rule, comment }: PlannedRule): string {
  return `\n${comment === "" ? "" : `# ${comment}\n`}${formatRule(rule)}`;
}
