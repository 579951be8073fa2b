// Two turns over a connection that somebody else keeps cutting: one to its end, one that is cancelled. In node
// (`node cuts.mjs TRIALOGUE_JS URL`, which prints what it hears and, last, what it has), and in a page, as a module.

export async function talk({ connect, url, WebSocket, say }) {
  const chat = connect(url, WebSocket && { WebSocket });
  chat.on("session_ready", () => say("ready"));

  async function read(turn) {
    let text = "";
    for await (const token of turn) {
      text += token;
      say("token");
    }
    return text;
  }

  const whole = chat.ask("whole", { options: { tokens: 500, pace: 0.01 } });
  const iterated = await read(whole);
  const { ending, text, whole: nothingMissing } = await whole.ended;

  const endless = chat.ask("endless", { options: { tokens: null, pace: 0.01 } });
  const reading = read(endless);
  while (endless.tokens < 40) await new Promise((go) => setTimeout(go, 10));
  const seen = await endless.cancel();
  const result = { iterated, text, ending, nothingMissing, sources: whole.sources,
    seen: { ...seen, receipt: await seen.receipt }, iteratedUntilCancelled: await reading };
  chat.close();
  return result;
}

if (globalThis.process?.argv?.[2]) {
  const [client, url] = process.argv.slice(2);
  const { connect } = await import(client);
  const { WebSocket } = await import("ws");
  const result = await talk({ connect, url, WebSocket, say: (word) => process.stdout.write(`${word}\n`) });
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
