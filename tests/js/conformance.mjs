// The client library before `trialogue conformance --serve`: `node conformance.mjs TRIALOGUE_JS URL`.

import { WebSocket } from "ws";

const { connect } = await import(process.argv[2]);
const chat = connect(process.argv[3], { WebSocket });

const given = [];
let heard = "start";
for (;;) {
  const turn = chat.ask(heard);
  try { for await (const token of turn) given.push(token); } catch { given.length = 0; } // so that it acknowledges
  const { text, ending, error } = await turn.ended;
  if (error?.code === "closed") break;
  heard = JSON.stringify({ text, ending: error?.code ?? ending });
}
