// Ask from node, read a little, and cancel. The same module works in browsers.
//
//     $ npm install ../adapters/trialogue_adapters/web/npm
//     $ node ask.mjs http://127.0.0.1:8000
//
// Node 22 or later has WebSocket; node 20 has it with `node --experimental-websocket`.

import { connect } from "trialogue";

const address = process.argv[2].replace("http", "ws");
const chat = connect(`${address}/chat-ws?session_id=${crypto.randomUUID()}`);

const turn = chat.ask("one two three four five six seven eight nine ten");
for await (const token of turn) {
  process.stdout.write(token);
  if (turn.tokens === 5) break;
}
const seen = await turn.cancel();
console.log(`[${seen.ending}] ${seen.tokens} tokens had come`);
chat.close();
