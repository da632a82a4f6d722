// The instruments inside the executable: an object of their own, mapped by `mcr send` and `mcr receive` only.
import { dlopen } from "bun:ffi";
import embedded from "../../../dist/libmcr-measure.so" with { type: "file" };
import { extract } from "../memfd.ts";
import { symbols } from "./symbols.ts";

const abiVersion = 1;

export function openLibrary() {
  const library = dlopen(extract(embedded, "libmcr-measure.so"), symbols).symbols;
  const found = library.mcr_measure_abi();
  if (found !== abiVersion)
    throw new Error(`libmcr-measure has ABI ${found}, this program wants ${abiVersion}`);
  return library;
}
