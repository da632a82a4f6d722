// The links that frames leave by: when one is opened, kept, given up, and what a device that refuses frames does.

import { describe, expect, test } from "bun:test";
import { constants as osConstants } from "node:os";
import type { LinkHandle, LinkOptions, RelayHandle } from "../../src/native/shim.ts";
import type { InterfaceState } from "../../src/net/interfaces.ts";
import { type LinkShim, Links } from "../../src/net/links.ts";
import type { RunningRule } from "../../src/net/running.ts";
import {
  type ErrnoName,
  interfaceState,
  linkHandle,
  recordedLog,
  ruleOf,
  runningRule,
  systemError,
  veth2Mac,
} from "../support/fakes.ts";

class FakeLinks implements LinkShim {
  refusal: ErrnoName | undefined;
  readonly opened: LinkOptions[] = [];
  /** link → errno with which its device refuses frames. */
  readonly refusing = new Map<LinkHandle, number>();

  openLink(_relay: RelayHandle, options: LinkOptions): LinkHandle {
    if (this.refusal) throw systemError(this.refusal);
    this.opened.push(options);
    return linkHandle(this.opened.length);
  }
  linkRefusal(link: LinkHandle): number {
    return this.refusing.get(link) ?? 0;
  }
  closeLink(): void {}
}

function isRelayHandle(value: number): value is RelayHandle {
  return value > 0;
}

function fixture(...egress: readonly Readonly<Record<string, unknown>>[]) {
  const relay: number = 1;
  if (!isRelayHandle(relay)) throw new Error("no handle");
  const shim = new FakeLinks();
  const recorded = recordedLog();
  const links = new Links(shim, relay, recorded.log);
  const rules: readonly RunningRule[] = [
    runningRule(ruleOf({ egress: egress.length > 0 ? egress : [{ interface: "veth2" }] })),
  ];
  const refresh = (...states: readonly InterfaceState[]) =>
    links.refresh(rules, new Map(states.map((state) => [state.name, state])));
  return { shim, links, refresh, lines: recorded.lines };
}

describe("a link whose interface was taken away and is back with the same index", () => {
  test("is opened anew at once: no device has refused anything", () => {
    const { shim, links, refresh } = fixture();
    refresh(interfaceState());
    shim.refusing.set(linkHandle(1), osConstants.errno.ENXIO);
    expect(links.hasRefusal).toBe(true);
    expect(refresh(interfaceState())).toEqual([linkHandle(1)]);
    expect(links.of("veth2")).toBe(linkHandle(2));
  });
});

describe("a link", () => {
  test("is opened once for an interface, with its MAC", () => {
    const { shim, links, refresh, lines } = fixture();
    expect(refresh(interfaceState())).toEqual([]);
    expect(refresh(interfaceState())).toEqual([]);
    expect(shim.opened).toEqual([{ ifindex: 4, mac: veth2Mac }]);
    expect(links.of("veth2")).toBe(linkHandle(1));
    expect(lines).toEqual(["<6>[Egress] sending frames out of veth2"]);
  });

  test.each([
    ["no egress may use it", [{ interface: "veth2", path: "socket" }], {}],
    ["all go to hosts", [{ interface: "veth2", address: "10.0.0.9" }], {}],
    ["the interface is a tunnel", [{ interface: "veth2" }], { type: 0xfffe }],
  ] as const)("is not opened where %s", (_, egress, state) => {
    const { shim, links, refresh } = fixture(...egress);
    refresh(interfaceState(state));
    expect(shim.opened).toEqual([]);
    expect(links.of("veth2")).toBeUndefined();
  });

  test.each([{ mac: 5 }, { ifindex: 9 }, { mtu: 9000 }])("is a new one after a change of %j", (change) => {
    const { links, refresh } = fixture();
    refresh(interfaceState());
    expect(refresh(interfaceState(change))).toEqual([linkHandle(1)]);
    expect(links.of("veth2")).toBe(linkHandle(2));
  });

  test("outlives a change of address, and goes with its interface", () => {
    const { links, refresh } = fixture();
    refresh(interfaceState());
    expect(refresh(interfaceState({ address: 7 }))).toEqual([]);
    expect(refresh()).toEqual([linkHandle(1)]);
    expect(links.of("veth2")).toBeUndefined();
  });

  test("whose device refuses frames is given up, and tried again like all that failed", () => {
    const { shim, links, refresh, lines } = fixture();
    refresh(interfaceState());
    expect([links.hasRefusal, links.hasFailure]).toEqual([false, false]);
    shim.refusing.set(linkHandle(1), 95);
    expect(links.hasRefusal).toBe(true);
    expect(refresh(interfaceState())).toEqual([linkHandle(1)]);
    const reason = "veth2 refuses frames: operation not supported on socket (ENOTSUP)";
    expect(links.of("veth2")).toBe(reason);
    expect(lines.at(-1)).toBe(`<4>[Egress] ${reason}; its egresses send by sockets`);
    expect([links.hasRefusal, links.hasFailure]).toEqual([false, true]);
    expect(refresh(interfaceState())).toEqual([]);
    expect(links.of("veth2")).toBe(linkHandle(2));
    expect([links.hasRefusal, links.hasFailure]).toEqual([false, false]);
  });

  test("that is refused at every try says so once a minute", () => {
    const { shim, refresh, lines } = fixture();
    refresh(interfaceState());
    for (let link = 1; link < 10; link += 1) {
      shim.refusing.set(linkHandle(link), 95);
      expect(refresh(interfaceState())).toEqual([linkHandle(link)]);
      expect(refresh(interfaceState())).toEqual([]);
    }
    expect(lines).toHaveLength(2);
  });

  test("that cannot be opened is tried again, and says why meanwhile", () => {
    const { shim, links, refresh } = fixture();
    shim.refusal = "EMFILE";
    refresh(interfaceState());
    expect(links.of("veth2")).toBe("cannot open a packet socket on veth2: too many open files (EMFILE)");
    expect(links.hasFailure).toBe(true);
    refresh(interfaceState());
    expect(links.hasFailure).toBe(true);
    shim.refusal = undefined;
    refresh(interfaceState());
    expect(links.of("veth2")).toBe(linkHandle(1));
  });
});
