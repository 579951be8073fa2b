// Compiled by `tsc --strict`, never run: it uses every public thing of the package, and what must not compile, does not.

import {
  MAX_ANSWER, MAX_TURNS, MAX_UNFINISHED, SUBPROTOCOL, Trialogue, TrialogueError, Turn, connect, randomId,
} from "trialogue";
import type {
  ClientFrame, ClientMessage, Ended, Ending, Events, How, Minted, Options, Phase, Policy, Seen, ServerFrame,
  ServerFrames, SessionReady, Socket, Source, State, StateChange, StreamReceipt,
} from "trialogue";

declare const SomeSocket: new (url: string, protocols: string[]) => Socket;

const minted: Minted = { ws_token: "v1.x", expires_in: 900 };
const options: Options = { after: "1760000000000:4", WebSocket: SomeSocket, mint: async () => minted };
const chat: Trialogue = new Trialogue("wss://host/chat-ws?session_id=s1", options);
const same: Trialogue = connect("wss://host/chat-ws");
const bounds: number = MAX_ANSWER + MAX_TURNS + MAX_UNFINISHED;
const words: string[] = [randomId(), SUBPROTOCOL, chat.sessionId, ...chat.unfinished, chat.position ?? "", `${bounds}`];
const state: State = chat.state;

chat.open();
chat.retryNow();
chat.reconnect();
chat.reconnect("wss://host/chat-ws?session_id=s1&lang=en");
chat.typing(true);
chat.auth(minted.ws_token);
chat.ack("m1", 3);
chat.cancel();
chat.cancel("m1");
const policy: Policy = "enqueue";
const how: How = { onBusy: policy, options: { depth: 2 } };
const id: string = chat.send("hello", how);

const off: () => void = chat.on("stream_token", (frame) => words.push(frame.token, `${frame.index + (frame.offset ?? 0)}`));
off();
chat.on("state", (change: StateChange) => words.push(change.state, change.reason));
chat.on("session_ready", (ready: SessionReady & { whole: boolean }) => words.push(`${ready.whole} ${ready.limits.queue}`));
chat.on("turn", (turn) => words.push(turn.id, turn.question ?? "", `${turn.mine}`));
chat.on("*", (frame: ServerFrame) => {
  if (frame.type === "stream_end") words.push(frame.finish_reason, `${frame.total_tokens}`);
  if (frame.type === "stream_error") words.push(frame.error_code, frame.solutions[0]);
});

async function talk(): Promise<string> {
  const turn: Turn = chat.ask("hello", { onBusy: "interrupt" });
  let text = "";
  for await (const token of turn) text += token.toUpperCase();
  const phase: Phase = turn.phase;
  const source: Source | undefined = turn.sources[0];
  const seen: Seen = await turn.cancel();
  const receipt: StreamReceipt | null = await seen.receipt;
  const end: Ended = await turn.ended;
  const ending: Ending | null = turn.ending;
  const error: TrialogueError | null = end.error;
  if (error) text += error.code + error.solutions.join() + `${error.retryable} ${error.retryAfterMs}`;
  return `${text} ${phase} ${source?.title} ${receipt?.generated} ${ending} ${turn.text} ${turn.tokens} ${turn.place} ` +
    `${end.whole} ${end.ms} ${Object.keys(end.meta ?? {})} ${(await turn.receipt)?.upstream} ${seen.text} ${seen.tokens}`;
}

const said: ClientMessage = { message_id: "m1", content: "hello", session_id: "s1" };
const frames: ClientFrame[] = [said, { type: "cancel" }, { type: "ping", id: 1 }];
type Told = Events["goaway"] | ServerFrames["presence"];
const told: Told = { type: "goaway", reason: "drain", retry_after_ms: 5 };
export { frames, id, same, state, talk, told };

// What must be found.
// @ts-expect-error there is no such event
chat.on("stream_tokn", () => {});
// @ts-expect-error a token frame has no `text`
chat.on("stream_token", (frame) => frame.text);
// @ts-expect-error no such policy
chat.ask("hello", { onBusy: "ignore" });
// @ts-expect-error a question is text
chat.ask(5);
// @ts-expect-error a position is text
new Trialogue("wss://host/chat-ws?session_id=s1", { after: 4 });
// @ts-expect-error no such option
connect("wss://host/chat-ws", { retries: 3 });
// @ts-expect-error that is no WebSocket
connect("wss://host/chat-ws", { WebSocket: class {} });
// @ts-expect-error `ended` is a promise
const notYet: Ending = chat.ask("hello").ended.ending;
// @ts-expect-error turns are made by asking
new Turn("m1", null, true, chat);
// @ts-expect-error what has come cannot be written over
chat.ask("hello").text = "";
// @ts-expect-error an ack has an index
const incomplete: ClientFrame = { type: "ack", message_id: "m1" };
// @ts-expect-error a receipt may not come
(await chat.ask("hello").receipt).generated;
