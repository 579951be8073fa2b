// What is wrong with an AsyncAPI document, as JSON: `node check_spec.mjs FILE`. The official parser looks at the document,
// and ajv at each example, with the schema of its message (the parser leaves those of version 3 unread).

import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import { readFileSync } from "node:fs";

const text = readFileSync(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(text);
const findings = diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path }));

const { components } = JSON.parse(text);
const ajv = new Ajv.default({ strict: false }).addSchema({ $id: "spec:", components });
for (const [name, { payload, examples }] of Object.entries(components.messages)) {
  for (const [number, example] of Object.entries(document ? examples : [])) {
    if (ajv.validate(`spec:${payload.$ref}`, example.payload)) continue;
    findings.push({ severity: 0, code: "wrong-example", message: ajv.errorsText(), path: [name, number] });
  }
}
process.stdout.write(JSON.stringify({ read: document !== undefined, findings }));
