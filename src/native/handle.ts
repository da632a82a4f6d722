// Handles of what C opened: opaque, told apart by their kind. Whoever opens one closes it.
import type { Pointer } from "bun:ffi";
import { SystemError } from "./system-error.ts";

declare const kind: unique symbol;
export type Handle<Kind extends string> = Pointer & { readonly [kind]: Kind };

/** Calls what returns a handle, or NULL and the reason in its last argument. */
export function opened<H extends Pointer>(open: (error: Int32Array) => Pointer | bigint | null): H {
  const error = new Int32Array(1);
  const handle = open(error) as H | null;
  if (handle === null) throw new SystemError(-(error[0] ?? 0));
  return handle;
}
