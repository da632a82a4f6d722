// The interfaces that frames of our own leave by: a link each, opened where an egress may use it, given up when the
// interface changes. Where a device refuses frames its egresses send by sockets, until the relay tries again.
import { constants as osConstants } from "node:os";
import type { Log } from "../log.ts";
import type { LinkHandle, RelayHandle, Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { type InterfaceState, isUsable } from "./interfaces.ts";
import type { RunningRule } from "./running.ts";
import { socketReason, typeReason } from "./send-path.ts";
import type { Interfaces } from "./wanted.ts";

export type LinkShim = Pick<Shim, "openLink" | "linkRefusal" | "closeLink">;

interface Link {
  readonly state: InterfaceState;
  readonly handle: LinkHandle | undefined;
  /** Why there is none: tried again with the next refresh. */
  readonly failure: string | undefined;
}

/** ENXIO: the interface was taken away for a moment, and the link with it. */
const gone = osConstants.errno.ENXIO;

export class Links {
  readonly #links = new Map<string, Link>();

  constructor(
    readonly shim: LinkShim,
    readonly relay: RelayHandle,
    readonly log: Log,
  ) {}

  /** Opens what is missing; returns the links to close once no worker sends by them. */
  refresh(rules: readonly RunningRule[], interfaces: Interfaces): readonly LinkHandle[] {
    const wanted = wantedLinks(rules, interfaces);
    const stale: LinkHandle[] = [];
    for (const [name, link] of [...this.#links]) {
      const state = wanted.get(name);
      const refusal = link.handle === undefined ? 0 : this.shim.linkRefusal(link.handle);
      const isSame = state && hasSameLink(state, link.state);
      if (isSame && refusal === 0 && link.handle !== undefined) continue;
      if (link.handle !== undefined) stale.push(link.handle);
      this.#links.delete(name);
      if (isSame && refusal === gone) this.#open(state, "info");
      else if (isSame && refusal !== 0) this.#refuse(state, refusal);
      else if (isSame) this.#open(state, "debug");
    }
    for (const state of wanted.values()) if (!this.#links.has(state.name)) this.#open(state, "info");
    return stale;
  }

  /** The link of an interface, or why there is none; undefined where none was wanted. */
  of(name: string): LinkHandle | string | undefined {
    const link = this.#links.get(name);
    return link && (link.handle ?? link.failure);
  }

  /** A device has refused frames since the last refresh. */
  get hasRefusal(): boolean {
    return [...this.#links.values()].some(
      ({ handle }) => handle !== undefined && this.shim.linkRefusal(handle) !== 0,
    );
  }

  /** Some interface has no link, and a refresh would try again. */
  get hasFailure(): boolean {
    return [...this.#links.values()].some(({ handle }) => handle === undefined);
  }

  #refuse(state: InterfaceState, refusal: number): void {
    this.#fail(state, `${state.name} refuses frames: ${new SystemError(refusal).message}`);
  }

  #open(state: InterfaceState, level: "info" | "debug"): void {
    const { name, ifindex, mac } = state;
    try {
      const handle = this.shim.openLink(this.relay, { ifindex, mac });
      this.#links.set(name, { state, handle, failure: undefined });
      this.log.write("Egress", level, `sending frames out of ${name}`);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#fail(state, `cannot open a packet socket on ${name}: ${error.message}`);
    }
  }

  /** It fails in the same way every few seconds, until something is done about it. */
  #fail(state: InterfaceState, failure: string): void {
    this.#links.set(state.name, { state, handle: undefined, failure });
    const text = `${failure}; its egresses send by sockets`;
    this.log.writeRepeating(`link ${state.name}`, "Egress", "warning", text);
  }
}

/** The usable interfaces by which some egress could send frames. */
function wantedLinks(
  rules: readonly RunningRule[],
  interfaces: Interfaces,
): ReadonlyMap<string, InterfaceState> {
  const wanted = new Map<string, InterfaceState>();
  for (const { egresses } of rules)
    for (const { egress } of egresses) {
      const state = interfaces.get(egress.interface);
      if (socketReason(egress) !== undefined || !state || !isUsable(state)) continue;
      if (typeReason(state.name, state.type) === undefined) wanted.set(state.name, state);
    }
  return wanted;
}

/** What headers and refusals depend on. */
function hasSameLink(a: InterfaceState, b: InterfaceState): boolean {
  return a.ifindex === b.ifindex && a.mac === b.mac && a.mtu === b.mtu;
}
