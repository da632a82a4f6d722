// Every interface that rules capture from: opens and closes its rings, keeps its filter, adds up its ring drops.
// An ingress keeps its counter slot for as long as the process lives, so that its counters only grow.
import { assert } from "../error.ts";
import type { Log } from "../log.ts";
import { counterArea } from "../native/layouts.ts";
import { SystemError } from "../native/system-error.ts";
import { type Capture, openCaptures, type RingShim } from "./capture.ts";
import { type InterfaceReader, type InterfaceState, isUsable, type Unusable } from "./interfaces.ts";
import { describeRing, describeShortage, type RingSettings, ringShape } from "./profile.ts";
import type { TableInterface } from "./rule-table.ts";
import type { RunningRule } from "./running.ts";

interface Ingress {
  readonly slot: number;
  capture: Capture | undefined;
  hasCaptured: boolean;
  failure: string | undefined;
  ringDropped: number;
  /** At the last look. */
  droppedAtLook: number;
  /** Of these, so many found the ring full or had an offload type that the kernel cannot describe, and the log has said so. */
  fullTold: number;
  undescribedTold: number;
  isStuck: boolean;
  /** How often its rings were opened anew because they only dropped. */
  reopened: number;
}

/** Why the kernel drops frames that are no matter of a ring's size, and what ends it; `mcr explain` says the same. */
export const undescribedFrames = {
  reason:
    "they have an offload type that the kernel cannot hand over (UDP fragmentation offload of an old guest)",
  cure: "in the guest: ethtool -K eth0 ufo off; or host_ufo=off for its network card in QEMU",
} as const;

export class Ingresses {
  readonly #ingresses = new Map<string, Ingress>();

  constructor(
    readonly shim: RingShim & InterfaceReader,
    readonly log: Log,
    readonly workerCount: number,
    readonly settings: RingSettings,
    /** Counter slot → frames with an offload type that the kernel cannot describe. */
    readonly undescribedOf: (slot: number) => number = () => 0,
  ) {}

  /**
   * Opens what is missing. Returns the captures that go: they admit nothing any more, and what their rings hold is
   * still to be read before they are closed.
   */
  refresh(
    interfaces: ReadonlyMap<string, InterfaceState | Unusable>,
    wanted: ReadonlySet<string>,
  ): readonly Capture[] {
    const stale: Capture[] = [];
    for (const [name, ingress] of this.#ingresses) {
      const { capture } = ingress;
      if (!wanted.has(name)) ingress.failure = undefined;
      // Down is not gone: the kernel keeps ring and filter for when the interface comes up again.
      const isSame = capture?.isBound && this.shim.readInterface(name)?.ifindex === capture.ifindex;
      if (!capture || (wanted.has(name) && isSame && !ingress.isStuck)) continue;
      if (ingress.isStuck) this.#tellStuck(name, ingress);
      admitNothing(capture);
      ingress.capture = undefined;
      stale.push(capture);
    }
    const missing = [...wanted].flatMap((name) => {
      const state = interfaces.get(name);
      const ingress = this.#ingressOf(name);
      return ingress && !ingress.capture && state && isUsable(state) ? [{ ingress, state }] : [];
    });
    this.#open(missing);
    return stale;
  }

  /** Closes what `refresh` has returned and no worker reads any more. */
  close(captures: readonly Capture[]): void {
    this.countUnread(captures);
    for (const capture of captures) capture.close();
  }

  /** No worker reads these any more: what still lies in their rings is lost, and counted with what found them full. */
  countUnread(captures: readonly Capture[]): void {
    for (const capture of captures) {
      const { name } = capture.state;
      const unread = capture.discard();
      const ingress = this.#ingresses.get(name);
      assert(ingress, "an ingress stays for as long as the process lives");
      ingress.ringDropped += capture.takeDrops() + unread;
      if (unread > 0)
        this.log.warning(
          "Ingress",
          `${unread} frames on ${name} were left unread when its rings went: this host is too slow for the traffic`,
        );
    }
  }

  /** Admits the groups of these rules, and of no others, on every interface. */
  admit(rules: readonly RunningRule[]): void {
    for (const [name, ingress] of this.#ingresses) {
      const groups = rules
        .filter(({ rule }) => rule.ingress.interface === name)
        .flatMap(({ rule: { ingress } }) => ingress.group ?? []);
      try {
        ingress.capture?.admit(groups);
        if (ingress.capture) ingress.failure = undefined;
      } catch (error) {
        // The filter before it stays in force, so what was relayed is relayed.
        if (!(error instanceof SystemError)) throw error;
        ingress.failure = `cannot set the filter on ${name}: ${error.message}; raise net.core.optmem_max`;
      }
    }
  }

  /** Adds the kernel's ring drops to ours. */
  takeRingDrops(): void {
    for (const ingress of this.#ingresses.values()) ingress.ringDropped += ingress.capture?.takeDrops() ?? 0;
  }

  /**
   * Looks, at regular times: tells what was dropped, and finds rings that only drop. True when some are to be opened
   * anew: `refresh` does.
   */
  look(): boolean {
    this.takeRingDrops();
    let hasStuck = false;
    for (const [name, ingress] of this.#ingresses) {
      this.#tellDrops(name, ingress);
      ingress.isStuck = ingress.capture?.isStuck() ?? false;
      hasStuck ||= ingress.isStuck;
    }
    return hasStuck;
  }

  /** A worker finds out what the kernel could not describe after the kernel has dropped it: what is full is told a look later. */
  #tellDrops(name: string, ingress: Ingress): void {
    const undescribed = this.undescribedOf(ingress.slot);
    const full = Math.max(0, ingress.droppedAtLook - undescribed);
    ingress.droppedAtLook = ingress.ringDropped;
    if (undescribed > ingress.undescribedTold)
      this.log.writeRepeating(
        `offload ${name}`,
        "Ingress",
        "warning",
        `${undescribed - ingress.undescribedTold} frames on ${name} were lost: ${undescribedFrames.reason}; ${undescribedFrames.cure}`,
      );
    if (full > ingress.fullTold)
      this.log.writeRepeating(
        `ring ${name}`,
        "Ingress",
        "warning",
        `${full - ingress.fullTold} frames on ${name} found the ring full: this host is too slow for the traffic (mcr stats shows the load of each worker)`,
      );
    ingress.undescribedTold = Math.max(ingress.undescribedTold, undescribed);
    ingress.fullTold = Math.max(ingress.fullTold, full);
  }

  #tellStuck(name: string, ingress: Ingress): void {
    ingress.isStuck = false;
    ingress.reopened += 1;
    this.log.writeRepeating(
      `stuck ${name}`,
      "Ingress",
      "error",
      `a ring on ${name} lost every frame, and no worker could take any from it: the rings are opened anew`,
    );
  }

  /** It was taken from this namespace since it captures, and may be back: whatever was opened on it is of no use. */
  wasTaken(name: string): boolean {
    return this.#ingresses.get(name)?.capture?.isBound === false;
  }

  /** Why there is no capture on an interface that is there and up. */
  failureOf(name: string): string | undefined {
    const ingress = this.#ingresses.get(name);
    return ingress
      ? ingress.failure
      : `more than ${counterArea.interfacesMax} ingress interfaces: split the rules over two instances`;
  }

  get hasFailure(): boolean {
    return [...this.#ingresses.values()].some(({ failure }) => failure !== undefined);
  }

  /** The interfaces that capture now. */
  get capturing(): ReadonlyMap<string, Capture> {
    return new Map(
      [...this.#ingresses].flatMap(([name, { capture }]) => (capture ? [[name, capture] as const] : [])),
    );
  }

  /** What the rule table needs of the interfaces that capture now, and of the captures that go. */
  tableInterfaces(stale: readonly Capture[]): ReadonlyMap<string, TableInterface> {
    return new Map(
      [...this.#ingresses].flatMap(([name, { slot, capture }]) => {
        const captures = stale.filter(({ state }) => state.name === name);
        if (capture) captures.push(capture);
        return captures.length > 0 ? [[name, { slot, captures }] as const] : [];
      }),
    );
  }

  /** Interface → ifindex, where everything that its rules want gets into the rings. */
  get whollyCaptured(): ReadonlyMap<string, number> {
    return new Map(
      [...this.#ingresses].flatMap(([name, { capture, failure }]) =>
        capture && failure === undefined ? [[name, capture.ifindex] as const] : [],
      ),
    );
  }

  /** Every interface that ever captured. */
  get statistics(): readonly {
    readonly name: string;
    readonly slot: number;
    readonly ringDropped: number;
    readonly reopened: number;
  }[] {
    return [...this.#ingresses]
      .filter(([, { hasCaptured }]) => hasCaptured)
      .map(([name, { slot, ringDropped, reopened }]) => ({ name, slot, ringDropped, reopened }));
  }

  /** undefined when there are more ingress interfaces than counter slots. */
  #ingressOf(name: string): Ingress | undefined {
    const found = this.#ingresses.get(name);
    const slot = this.#ingresses.size;
    if (found || slot === counterArea.interfacesMax) return found;
    const ingress: Ingress = {
      slot,
      capture: undefined,
      hasCaptured: false,
      failure: undefined,
      ringDropped: 0,
      droppedAtLook: 0,
      fullTold: 0,
      undescribedTold: 0,
      isStuck: false,
      reopened: 0,
    };
    this.#ingresses.set(name, ingress);
    return ingress;
  }

  #open(missing: readonly { readonly ingress: Ingress; readonly state: InterfaceState }[]): void {
    const states = missing.map(({ state }) => state);
    const opened = openCaptures(this.shim, states, this.workerCount, ringShape(this.settings));
    for (const [i, { ingress, state }] of missing.entries()) {
      const capture = opened[i];
      assert(capture, "every interface has its capture, or the reason why not");
      if (capture instanceof SystemError) {
        ingress.failure = openFailure(state.name, this.settings, capture);
        continue;
      }
      ingress.capture = capture;
      ingress.hasCaptured = true;
      ingress.failure = undefined;
      this.log.info(
        "Ingress",
        `capturing on ${state.name}: fanout id ${capture.fanoutId}, mode ${this.settings.fanout}, rings for ${this.workerCount} workers, ${describeRing(this.settings)}`,
      );
      const shortage = describeShortage(this.settings, capture.receiveBytes);
      if (shortage !== undefined) this.log.notice("Ingress", `on ${state.name} ${shortage}`);
    }
  }
}

function admitNothing(capture: Capture): void {
  try {
    capture.admit([]);
  } catch (error) {
    // It captures on until it is closed: what is not read by then is counted.
    if (!(error instanceof SystemError)) throw error;
  }
}

function openFailure(name: string, { ring_bytes }: RingSettings, error: SystemError): string {
  const what = `cannot capture on ${name}: ${error.message}`;
  switch (error.code) {
    case "EPERM":
    case "EACCES":
      return `${what}; run as root, or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)`;
    case "ENOMEM":
      return `${what}; the rings take ${Math.round(ring_bytes / 2 ** 20)} MiB for each worker and interface: set a smaller ring_bytes or fewer workers in [relay]`;
    default:
      return `${what}; check ip link show ${name}`;
  }
}
