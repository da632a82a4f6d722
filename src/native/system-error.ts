// What the kernel refused: errno as number, name and words. Thrown by the shim's wrappers; whoever knows the rule,
// interface and group turns it into a sentence with the cure.
import { getSystemErrorMap } from "node:util";

const known = getSystemErrorMap();

export class SystemError extends Error {
  override readonly name = "SystemError";
  /** EPERM, ENOBUFS … */
  readonly code: string;
  /** `operation not permitted` … */
  readonly reason: string;

  /** @param errno positive, errno(3) */
  constructor(readonly errno: number) {
    const [code, reason] = known.get(-errno) ?? [`errno ${errno}`, `error ${errno}`];
    super(`${reason} (${code})`);
    this.code = code;
    this.reason = reason;
  }
}

/** The value of a call that returns -errno for trouble. */
export function checked(result: number): number {
  if (result < 0) throw new SystemError(-result);
  return result;
}
