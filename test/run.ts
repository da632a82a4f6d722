// `make test`: runs every test file and ends with the line "N passed, N failed".
// One `bun test` process per file, one after the other: a crash (a segmentation fault in the shim, say) or a hang
// is one failure of its own file and hides no other, and end-to-end tests do not share the CPU with one another.
//
//   bun test/run.ts [WORD…]     only the files whose path contains one of the words

import { mkdirSync, rmSync } from "node:fs";
import { variantName } from "./support/variant.ts";

/** A test without a limit of its own; end-to-end tests wait for a condition with a deadline well below this. */
const testLimitMs = 120_000;
/** A whole file; only a hang gets here. */
const fileLimitMs = 1_800_000;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly string[];
}

const root = new URL("..", import.meta.url).pathname;
const junitFolder = `${root}dist/test/junit`;
const words = process.argv.slice(2);
const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(root)]
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();

mkdirSync(junitFolder, { recursive: true });
const outcomes: Outcome[] = [];
for (const file of files) outcomes.push(await runFile(file));
report(outcomes);

async function runFile(file: string): Promise<Outcome> {
  const junit = `${junitFolder}/${file.replaceAll("/", "-")}.xml`;
  rmSync(junit, { force: true });
  const child = Bun.spawn(
    [
      process.execPath,
      "test",
      `--timeout=${testLimitMs}`,
      "--reporter=junit",
      `--reporter-outfile=${junit}`,
      `./${file}`,
    ],
    { cwd: root, stdio: ["ignore", "inherit", "inherit"], timeout: fileLimitMs, killSignal: "SIGKILL" },
  );
  await child.exited;
  const outcome = readJunit(await Bun.file(junit).text().catch(emptyText));
  if (child.exitCode === 0 && outcome.passed + outcome.skipped.length > 0) return outcome;
  if (outcome.failed > 0) return outcome;
  // Not a failed test, but a file that does not load, a crash, a hang, or no test at all.
  console.error(`${file}: ${child.signalCode ?? `exit code ${child.exitCode}`}, and no test that says why`);
  return { ...outcome, failed: 1 };
}

/** Counts of one junit file; attribute values hold no raw ">", so the tags can be cut out one by one. */
function readJunit(xml: string): Outcome {
  const skipped: string[] = [];
  let failed = 0;
  let total = 0;
  for (const [, attributes = "", body = ""] of xml.matchAll(
    /<testcase ([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )) {
    total += 1;
    if (body.includes("<failure") || body.includes("<error")) failed += 1;
    else if (body.includes("<skipped")) skipped.push(nameOf(attributes));
  }
  return { passed: total - failed - skipped.length, failed, skipped };
}

function nameOf(attributes: string): string {
  const value = (key: string) => new RegExp(`(?:^| )${key}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  const text = [value("file"), value("classname"), value("name")].filter((part) => part !== "").join(": ");
  const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => entities[entity] ?? "");
}

function report(outcomes: readonly Outcome[]): void {
  const skipped = outcomes.flatMap((outcome) => outcome.skipped);
  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
  // A run without any test is not a success.
  const failed = outcomes.length === 0 ? 1 : outcomes.reduce((sum, outcome) => sum + outcome.failed, 0);
  console.log("");
  for (const name of skipped) console.log(`skipped: ${name}`);
  if (outcomes.length === 0) console.log(`no test file matches ${words.join(" ") || "test/**/*.test.ts"}`);
  if (variantName !== undefined) console.log(`variant: ${variantName}`);
  const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : "";
  console.log(`${passed} passed, ${failed} failed${tail}`);
  process.exitCode = failed > 0 ? 1 : 0;
}

function emptyText(): string {
  return "";
}
