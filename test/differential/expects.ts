// What the relay under test can do already. The one place where a difference between it and the model is allowed for a
// while: a field that is false leaves the frames in question out, or does not look at the field of the header. Every one
// of them is true when the relay is finished, and then this file goes.

import type { Kind } from "./generator.ts";
import { fragmentKinds } from "./generator.ts";

export interface Expects {
  /** Fragments are put together per source, VLAN and protocol, and counted as the README says. */
  readonly fragments: boolean;
  /** Frames to another host's address are dropped as `other_host`. */
  readonly otherHost: boolean;
  /** 802.1ad is told from 802.1Q. */
  readonly serviceTag: boolean;
  /** A super-frame that is dropped counts as the datagrams it held. */
  readonly droppedSuperFrames: boolean;
  /** Identification on the frame path is the hop mark. */
  readonly hopMark: boolean;
  /** `plain = true`. */
  readonly plain: boolean;
  /** A frame of the old offload type is a ring drop and hurts nothing else. */
  readonly oldOffload: boolean;
}

export const finished: Expects = {
  fragments: true,
  otherHost: true,
  serviceTag: true,
  droppedSuperFrames: true,
  hopMark: true,
  plain: true,
  oldOffload: true,
};

const today: Expects = {
  fragments: false,
  otherHost: false,
  serviceTag: false,
  droppedSuperFrames: false,
  hopMark: false,
  plain: false,
  oldOffload: false,
};

/** What the relay of this tree is held to. */
export const current: Expects = finished;

/** Frames that it makes no sense to send yet. */
export function kindsLeftOut(expects: Expects): ReadonlySet<Kind> {
  return new Set<Kind>([
    ...(expects.fragments ? [] : fragmentKinds),
    ...(expects.otherHost ? [] : (["otherHost"] as const)),
    ...(expects.serviceTag ? [] : (["serviceTag"] as const)),
    ...(expects.oldOffload ? [] : (["oldOffload"] as const)),
  ]);
}
