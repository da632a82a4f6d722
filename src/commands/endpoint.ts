// An ingress or egress as it is typed: `INTERFACE[:TARGET[:PORT]][,KEY=VALUE…]`, to the table that a rule file would
// have. TARGET and PORT may be ranges; IPv6 goes into brackets. Only the form is judged here: keys and values are
// what the rule file knows, and whoever checks the rule says what is wrong with them.
//
//   eth0:239.1.1.1:5001                      eth0:239.1.1.1-239.1.1.50:5001-5050     eth0:[ff05::1]:5001
//   eth2 (same group and port)               eth2::6001 (same group)                 eth1:239.2.2.2:6001,ttl=8,dscp=46
import { ExitCode, fail } from "../error.ts";
import { isMulticast, parseAddressRange } from "../net/address.ts";

export type Table = Readonly<Record<string, string | number | boolean | readonly string[]>>;

export function parseIngress(word: string): Table {
  return parseEndpoint("--ingress", word, "eth0:239.1.1.1:5001");
}

export function parseEgress(word: string): Table {
  return parseEndpoint("--egress", word, "eth1:239.2.2.2:6001");
}

function parseEndpoint(option: string, word: string, example: string): Table {
  const refuse = (why: string): never =>
    fail(`mcr add: ${option} '${word}' ${why}, such as ${example}`, ExitCode.usage);
  const [place = "", ...settings] = word.split(",");
  const parts =
    /^([^:]+)(?::(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?)?$/.exec(place) ??
    (/:.*:.*:/.test(place) && !place.includes("[")
      ? refuse("has more than two colons: an IPv6 address goes into brackets, INTERFACE:[ADDRESS]:PORT")
      : refuse("is no endpoint: give INTERFACE:TARGET:PORT"));
  const [, name = "", bracketed, plain, port = ""] = parts;
  const target = bracketed ?? plain ?? "";
  return {
    interface: name,
    ...(target === "" ? {} : { [isHost(target) ? "address" : "group"]: target }),
    ...(port === "" || port === "*" ? {} : { port: scalar(port) }),
    ...Object.fromEntries(
      settings.map((setting) => {
        const [, key = "", value = ""] =
          /^([^=]+)=(.+)$/.exec(setting) ?? refuse(`has '${setting}' behind a comma: give KEY=VALUE`);
        return [key, scalar(value)];
      }),
    ),
  };
}

/** What is neither is taken for a group, because the rule file explains those. */
function isHost(target: string): boolean {
  const range = parseAddressRange(target);
  return range !== undefined && !isMulticast(range.first);
}

/** As TOML would have it: 8, true, or a text. */
function scalar(text: string): string | number | boolean {
  if (/^-?(0|[1-9]\d*)$/.test(text)) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  return text;
}
