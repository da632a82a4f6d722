// Holds the tidiness of the tree: what lies at the top, header comments, exact pins, commands named in README.

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

const topLevel = ["Makefile", "README.md", "bunfig.toml", "c", "package.json", "src", "test", "topo"];
/** What tools insist on. */
const forTools = [".ci", ".gitignore", "LICENSE", "biome.json", "bun.lock", "tsconfig.json"];

describe("the tree", () => {
  test("holds at the top only what belongs there", () => {
    const allowed = new Set([...topLevel, ...forTools]);
    expect(trackedAtTop().filter((name) => !allowed.has(name))).toEqual([]);
  });

  test("every source opens with a comment that says what it owns", () => {
    const files = [...new Bun.Glob("{src,c,test,topo}/**/*.{ts,c,h,sh}").scanSync(root)];
    const opening = (file: string) => (file.endsWith(".sh") ? /^(#!.*\n)?# \S/ : /^(#!.*\n)?(\/\/ |\/\*)/);
    const bare = files.filter((file) => !opening(file).test(read(file)));
    expect(bare).toEqual([]);
  });

  test("package.json pins exact versions", () => {
    const manifest = JSON.parse(read("package.json")) as {
      packageManager: string;
      dependencies: Record<string, string>;
      devDependencies: Record<string, string>;
    };
    const pins = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(pins.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(manifest.packageManager).toMatch(/^bun@\d+\.\d+\.\d+$/);
  });

  test("bun.lock names no registry", () => {
    expect(read("bun.lock")).not.toContain("://");
  });

  test("every make target that README names exists, and make help lists it", () => {
    // In code only; prose may "make sure" of something.
    const code = read("README.md").match(/```[\s\S]*?```|`[^`\n]+`/g) ?? [];
    const named = [...code.join("\n").matchAll(/(?:^|[`$&;] ?)make ([a-z]+)/gm)].map(
      (match) => match[1] ?? "",
    );
    const makefile = read("Makefile");
    const missing = named.filter((target) => !new RegExp(`^${target}:.* ## `, "m").test(makefile));
    expect(missing).toEqual([]);
  });
});

/** Names at the top of the repository; without git (a source archive), all but what is built or installed. */
function trackedAtTop(): readonly string[] {
  const built = [".git", ".tool", "dist", "node_modules"];
  const plain = () => readdirSync(root).filter((name) => !built.includes(name));
  if (!existsSync(join(root, ".git")) || !Bun.which("git")) return plain();
  const git = Bun.spawnSync(["git", "-C", root, "ls-files"], { stderr: "ignore" });
  if (git.exitCode !== 0) return plain();
  return [
    ...new Set(
      git.stdout
        .toString()
        .split("\n")
        .map((path) => path.split("/")[0] ?? ""),
    ),
  ].filter((name) => name !== "");
}
