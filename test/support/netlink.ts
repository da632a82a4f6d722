// A kernel that answers over netlink, out of tables that a test writes: links with their queues, routes, neighbours. It
// counts what it is asked.

import type { NetlinkShim } from "../../src/net/netlink.ts";
import {
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  messageTypes,
  word,
  wordAt,
} from "../../src/net/netlink.ts";
import { systemError } from "./fakes.ts";

export interface FakeDevice {
  dropped: number;
  errors: number;
  qdisc?: { kind: string; dropped: number };
}

const states = { INCOMPLETE: 1, REACHABLE: 2, STALE: 4, FAILED: 0x20 } as const;

export class FakeNetlink implements NetlinkShim {
  /** By index. */
  readonly devices = new Map<number, FakeDevice>();
  /** By address, of every interface. */
  readonly neighbours = new Map<string, keyof typeof states>();
  /** Host → gateway; null: no way there; absent: on the link itself. */
  readonly routes = new Map<string, string | null>();
  readonly asked = { links: 0, routes: 0, neighbours: 0 };
  isDeaf = false;

  netlink(request: Uint8Array): Uint8Array {
    if (this.isDeaf) throw systemError("ETIMEDOUT");
    const [message] = decodeMessages(request);
    if (!message) throw systemError("EINVAL");
    const { type, payload } = message;
    switch (type) {
      case messageTypes.getLink:
        this.asked.links += 1;
        return this.#link(wordAt(payload, 4, 4) ?? 0);
      case messageTypes.getQdisc:
        return this.#qdisc(wordAt(payload, 4, 4) ?? 0);
      case messageTypes.getRoute:
        this.asked.routes += 1;
        return this.#route(decodeAttributes(payload, 12).get(1)?.join(".") ?? "");
      case messageTypes.getNeighbour:
        this.asked.neighbours += 1;
        return this.#neighbours(wordAt(decodeAttributes(payload, 12).get(8), 0, 4) ?? 0);
      default:
        throw systemError("EOPNOTSUPP");
    }
  }

  #link(ifindex: number): Uint8Array {
    const device = this.devices.get(ifindex);
    if (!device) throw systemError("ENODEV");
    const body = new Uint8Array(16);
    body.set(word(ifindex), 4);
    const stats = new Uint8Array(204);
    const view = new DataView(stats.buffer);
    view.setBigUint64(40, BigInt(device.errors), true);
    view.setBigUint64(56, BigInt(device.dropped), true);
    return encodeRequest({ type: messageTypes.newLink, body, attributes: [[23, stats]] });
  }

  #qdisc(ifindex: number): Uint8Array {
    const { qdisc } = this.devices.get(ifindex) ?? {};
    if (!qdisc) throw systemError("ENOENT");
    const body = new Uint8Array(20);
    body.set(word(ifindex), 4);
    body.set(word(0xffff_ffff), 12);
    const queue = new Uint8Array(24);
    queue.set(word(0x0003_0018)); // an attribute of 24 bytes, TCA_STATS_QUEUE
    queue.set(word(qdisc.dropped), 12);
    const kind = new TextEncoder().encode(`${qdisc.kind}\0`);
    return encodeRequest({
      type: messageTypes.newQdisc,
      body,
      attributes: [
        [1, kind],
        [7, queue],
      ],
    });
  }

  #route(host: string): Uint8Array {
    const gateway = this.routes.get(host);
    if (gateway === null) throw systemError("ENETUNREACH");
    return encodeRequest({
      type: messageTypes.newRoute,
      body: new Uint8Array(12),
      attributes: gateway === undefined ? [] : [[5, Uint8Array.from(gateway.split("."), Number)]],
    });
  }

  #neighbours(ifindex: number): Uint8Array {
    return Buffer.concat(
      [...this.neighbours].map(([address, state]) => {
        const body = new Uint8Array(12);
        body.set(word(ifindex), 4);
        body.set(word(states[state]), 8);
        const attributes = [[1, Uint8Array.from(address.split("."), Number)] as const];
        return encodeRequest({ type: messageTypes.newNeighbour, body, attributes });
      }),
    );
  }
}
