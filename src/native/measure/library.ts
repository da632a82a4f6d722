// The instruments inside the executable: an object of their own, mapped by `mcr send` and `mcr receive` only.
import { dlopen } from "bun:ffi";
import embedded from "../../../dist/libmcr-measure.so" with { type: "file" };
import { extract } from "../memfd.ts";
import { constants, symbols } from "./abi.ts";

export function openLibrary() {
  const library = dlopen(extract(embedded, "libmcr-measure.so"), symbols).symbols;
  const found = library.mcr_measure_abi();
  const wanted = constants.MCR_MEASURE_ABI;
  if (found !== wanted) throw new Error(`libmcr-measure has ABI ${found}, this program wants ${wanted}`);
  return library;
}
