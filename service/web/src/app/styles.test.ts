import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { expect, it } from "vitest";

const web = process.cwd(); // Vitest runs where its configuration lies
const core = join(web, "node_modules/@mantine/core");
const components = join(core, "esm/components");

function files(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(ending)).map((name) => join(folder, name));
}

/** The folder of Mantine's that a component lies in. */
const folderOf = new Map(files(components, ".mjs").map((file) => [file.split(sep).at(-1)?.replace(".mjs", ""), relative(components, file).split(sep)[0] ?? ""]));

/** Those folders and all that their code imports. */
function closure(first: string[]): Set<string> {
  const seen = new Set<string>();
  for (const folder of first) {
    if (seen.has(folder)) continue;
    seen.add(folder);
    for (const file of files(join(components, folder), ".mjs"))
      for (const [, target] of readFileSync(file, "utf8").matchAll(/from ["'](\.\.?\/[^"']+)["']/g)) {
        const found = relative(components, resolve(dirname(file), target ?? "")).split(sep)[0] ?? "";
        if (found !== "" && found !== ".." && !seen.has(found)) first.push(found);
      }
  }
  return seen;
}

it("every component of Mantine that is in use has its styles", () => {
  const used = files(join(web, "src"), ".tsx").flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/import \{([^}]*)\} from "@mantine\/core"/g)].flatMap(([, names]) => (names ?? "").split(",").map((name) => name.trim().replace(/^type /, ""))),
  );
  const folders = [...new Set(used.map((name) => folderOf.get(name)).filter((name) => name !== undefined))];
  expect(folders).toContain("Button");
  const given = readFileSync(join(web, "src/app/styles.ts"), "utf8");
  const missing = [...closure(folders)].filter((name) => existsSync(join(core, `styles/${name}.css`)) && !given.includes(`/styles/${name}.css"`));
  expect(missing).toEqual([]);
});
