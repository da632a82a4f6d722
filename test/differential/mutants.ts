// make mutants: proves that the differential test sees. Each patch of mutants/ plants one mistake in a copy of the tree;
// the copy is built and has to fail the short run, after a copy without a patch has passed it.
//
//   bun test/differential/mutants.ts [WORD…]     only the patches whose name contains one of the words

import { cp, mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { repository } from "../support/topology.ts";

type Outcome = "found" | "survived" | "does not apply" | "does not build";

const folder = join(import.meta.dir, "mutants");
const words = process.argv.slice(2);
const patches = (await readdir(folder))
  .filter(
    (name) => name.endsWith(".patch") && (words.length === 0 || words.some((word) => name.includes(word))),
  )
  .sort();
const sound = await outcomeOf(undefined);
if (sound !== "survived") throw new Error(`without a mutant the test has to pass, but: ${sound}`);
let isSound = patches.length > 0;
for (const patch of patches) {
  const outcome = await outcomeOf(join(folder, patch));
  console.log(`${patch.replace(/\.patch$/, "")}: ${outcome}`);
  isSound &&= outcome === "found";
}
if (patches.length === 0) console.log(`no patch in ${folder} has such a name`);
process.exitCode = isSound ? 0 : 1;

async function outcomeOf(patch: string | undefined): Promise<Outcome> {
  const copy = await mkdtemp(join(tmpdir(), "mcr-mutant-"));
  try {
    await copyTree(copy);
    if (patch !== undefined && !succeeds(copy, "patch", "--strip=1", "--silent", `--input=${patch}`))
      return "does not apply";
    if (!succeeds(copy, "make", "dist/mcr", "dist/test/inject", "dist/test/record")) return "does not build";
    const test = "./test/differential/differential.test.ts";
    return succeeds(copy, process.execPath, "test", "--bail", test) ? "survived" : "found";
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** What git tracks, as it lies here; what is installed is shared. */
async function copyTree(copy: string): Promise<void> {
  const { stdout } = Bun.spawnSync(["git", "-C", repository, "ls-files"]);
  for (const file of stdout.toString().trimEnd().split("\n")) {
    await mkdir(dirname(join(copy, file)), { recursive: true });
    await cp(join(repository, file), join(copy, file));
  }
  for (const installed of ["node_modules", ".tool"])
    if (
      await Bun.file(join(repository, installed, "."))
        .stat()
        .then(
          () => true,
          () => false,
        )
    )
      await symlink(join(repository, installed), join(copy, installed));
}

function succeeds(cwd: string, ...command: readonly string[]): boolean {
  return Bun.spawnSync([...command], { cwd, stdout: "ignore", stderr: "ignore", timeout: 300_000 }).success;
}
