// The interfaces that frames of our own leave by: a link each, opened where an egress may use it, given up when the
// interface changes. A device that refuses frames is remembered until it changes: its egresses send by sockets.
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
  readonly failure: string | undefined;
  /** The kernel may lack something for a moment: tried again with the next change. */
  readonly isRetried: boolean;
}

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
    for (const [name, link] of this.#links) {
      const state = wanted.get(name);
      const refusal = link.handle === undefined ? 0 : this.shim.linkRefusal(link.handle);
      const isSame = state && hasSameLink(state, link.state);
      if (isSame && refusal === 0 && !link.isRetried) continue;
      if (link.handle !== undefined) stale.push(link.handle);
      this.#links.delete(name);
      if (isSame && refusal !== 0) this.#refuse(state, refusal);
    }
    for (const state of wanted.values()) if (!this.#links.has(state.name)) this.#open(state);
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

  #refuse(state: InterfaceState, refusal: number): void {
    const failure = `${state.name} refuses frames: ${new SystemError(refusal).message}`;
    this.#links.set(state.name, { state, handle: undefined, failure, isRetried: false });
    this.log.warning("Egress", `${failure}; its egresses send by sockets`);
  }

  #open(state: InterfaceState): void {
    const { name, ifindex, mac } = state;
    try {
      const handle = this.shim.openLink(this.relay, { ifindex, mac });
      this.#links.set(name, { state, handle, failure: undefined, isRetried: false });
      this.log.info("Egress", `sending frames out of ${name}`);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const failure = `cannot open a packet socket on ${name}: ${error.message}`;
      this.#links.set(name, { state, handle: undefined, failure, isRetried: true });
      this.log.warning("Egress", `${failure}; its egresses send by sockets`);
    }
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
