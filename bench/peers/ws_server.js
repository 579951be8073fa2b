// Node's `ws`: a template, one send per token. A newer message or a cancel stops the running answer.
"use strict";
const { WebSocketServer } = require("ws");

const TOKEN = "word ";
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;
const immediate = () => new Promise((resolve) => setImmediate(resolve));
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function answer(socket, turn, content) {
  const [mode, count, , rate, start] = content.split(" ");
  const tell = (kind, fields) => socket.send(JSON.stringify({ type: kind, message_id: turn.id, ...fields }));
  const prefix = `{"type":"stream_token","message_id":${JSON.stringify(turn.id)},"token":`;
  const begun = monotonic();
  let index = 0;
  tell("stream_start", { session_id: "", timestamp: new Date().toISOString() });
  for (; index < Number(count || 0) && !turn.stopped && socket.readyState === 1; index++) {
    if (mode === "steps") await immediate();
    else if (mode === "paced") {
      const ahead = Number(start) + index / Number(rate) - monotonic();
      if (ahead > 0) await sleep(ahead);
    } else if (index % 64 === 63 && socket.bufferedAmount > 65536) await immediate();
    if (turn.stopped) break;
    socket.send(`${prefix}${JSON.stringify(TOKEN)},"index":${index}}`);
  }
  const elapsed = Math.round((monotonic() - begun) * 1000);
  if (!turn.stopped) tell("stream_sources", { sources: [] });
  tell("stream_end", {
    total_tokens: index, processing_time_ms: elapsed, finish_reason: turn.stopped ? "interrupted" : "stop",
  });
}

new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) }).on("connection", (socket) => {
  let turn = null;
  socket.on("message", (data) => {
    const body = JSON.parse(data);
    if (turn) turn.stopped = true;
    if ((body.type ?? "message") === "message") {
      turn = { id: body.message_id, stopped: false };
      answer(socket, turn, body.content).catch(() => socket.terminate());
    }
  });
  socket.on("close", () => { if (turn) turn.stopped = true; });
});
