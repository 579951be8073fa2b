// The client's TypeScript declarations, made from what is written once elsewhere:
//   frames.d.ts      from the schemas of the AsyncAPI document, which come from the server's pydantic models
//   trialogue.d.ts   by tsc, from the JSDoc of trialogue.js, which it also checks, strictly
//
//   trialogue spec > spec.json && node declarations.mjs spec.json FOLDER_OF_THE_CLIENT FOLDER_TO_WRITE_TO

import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile } from "json-schema-to-typescript";

const HEAD = "// Made from the server's models by `make declarations`: do not edit.\n";
const [specFile, client, target] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specFile, "utf8"));

/** The names of a channel's messages in one direction. */
const messages = (operation) => spec.operations[operation].messages.map(({ $ref }) => $ref.split("/").at(-1));

async function frames() {
  const received = messages("v1Receive"), sent = messages("v1Send");
  const schemas = structuredClone(spec.components.schemas);
  const wanted = new Set(["Policy", "Source", "ServerLimits", ...received, ...sent]);
  const definitions = Object.fromEntries(Object.entries(schemas).filter(([name]) => wanted.has(name)));
  // A field of any kind has a schema that says nothing, which would be made an object.
  const fields = Object.values(definitions).flatMap(({ properties = {} }) => Object.values(properties));
  for (const field of fields) if (Object.keys(field).every((key) => key === "description")) field.tsType = "unknown";
  const schema = JSON.parse(JSON.stringify({ title: "Unused", type: "object", definitions })
    .replaceAll("#/components/schemas/", "#/definitions/"));
  const options = { additionalProperties: false, bannerComment: "", format: true, style: { printWidth: 120 },
    unreachableDefinitions: true };
  const made = (await compile(schema, "Unused", options)).replace(/export interface Unused \{\}\n/, "")
    .replaceAll(/\/\*\*\n \* This interface was referenced by `Unused`'s JSON-Schema\n \* via the `definition` "\w+"\.\n \*\/\n/g, "")
    .replaceAll(/ \*\n \* This interface was referenced by `Unused`'s JSON-Schema\n \* via the `definition` "\w+"\.\n/g, "");
  const byType = sent.map((name) => `  ${spec.components.messages[name].name}: ${name};\n`).join("");
  return `${HEAD}\n${made.trim()}\n
/** What a server sends, by type. */
export interface ServerFrames {\n${byType}}
export type ServerFrame = ServerFrames[keyof ServerFrames];
/** What a client sends. */
export type ClientFrame = ${received.join(" | ")};\n`;
}

function classes(framesText) {
  const folder = mkdtempSync(join(tmpdir(), "declarations-"));
  try {
    cpSync(join(client, "trialogue.js"), join(folder, "trialogue.js"));
    writeFileSync(join(folder, "frames.d.ts"), framesText);
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    const tsc = join(import.meta.dirname, "node_modules", "typescript", "bin", "tsc");
    const flags = ["--allowJs", "--checkJs", "--strict", "--declaration", "--emitDeclarationOnly", "--outDir", "out",
      "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext", "--types", ""];
    execFileSync(process.execPath, [tsc, ...flags, "trialogue.js"], { cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
    return HEAD + readFileSync(join(folder, "out", "trialogue.d.ts"), "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const text = await frames();
writeFileSync(join(target, "frames.d.ts"), text);
writeFileSync(join(target, "trialogue.d.ts"), classes(text));
