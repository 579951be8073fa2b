/**
 * The Trialogue client: one WebSocket that speaks `trialogue.v1`, kept alive across drops. No dependency, no build;
 * browsers, and node 20 or later. MIT license.
 *
 *   const chat = connect("wss://host/chat-ws?session_id=s1");
 *   const turn = chat.ask("hello");
 *   for await (const token of turn) write(token);
 *   const { ending } = await turn.ended;
 *
 * It knows positions, re-sending and liveness, and nothing of a page: no DOM, no storage, no language.
 * It must never give one message a second id (the id is what makes re-sending safe), and never close with code 1000
 * except in `close()`: from the last connection of a session, 1000 means "stop the running turn".
 * It is one file, so that it can be copied into a page: Trialogue (the connection), Turn (an answer), Credential.
 *
 * @typedef {import("./frames.js").ServerFrames} ServerFrames
 * @typedef {import("./frames.js").ServerFrame} ServerFrame
 * @typedef {import("./frames.js").ClientFrame} ClientFrame
 * @typedef {import("./frames.js").ClientMessage} ClientMessage
 * @typedef {import("./frames.js").SessionReady} SessionReady
 * @typedef {import("./frames.js").StreamReceipt} StreamReceipt
 * @typedef {import("./frames.js").Source} Source
 * @typedef {import("./frames.js").Policy} Policy
 */

export const SUBPROTOCOL = "trialogue.v1";

/** Codes after which coming back would only repeat the refusal; after all others we return. */
const FINAL_CODES = new Set([1000, 1003, 1008, 1009]);
/** Our own code for "this socket is given up, I shall be back": any code but 1000 lets the turn go on. */
const CODE_BACK_SOON = 4001;
/** Of the server's own errors, those that the same content would meet again. */
const NOT_RETRYABLE = new Set(["WS-001", "WS-004"]);
const SERVERS_OWN = /^(WS|RAG)-0\d\d$/;

const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const STABLE_MS = 5_000; // a connection that lived this long forgives earlier failures
const HANDSHAKE_MS = 15_000;
const IDLE_MS = 20_000;
const PONG_MS = 10_000;
const ACK_MS = 500;
/** Messages without an ending that we keep for re-sending. When it is full, `send` and `ask` throw. */
export const MAX_UNFINISHED = 32;
/** Turns that are followed at once, ended ones that may still get a receipt among them; past it the oldest is let go. */
export const MAX_TURNS = 64;
/** Characters and tokens together that a turn keeps; a longer answer is cancelled and ends as "failed", "too_long". */
export const MAX_ANSWER = 4 * 2 ** 20;

/**
 * @typedef {"idle"|"connecting"|"ready"|"waiting"|"stopped"} State
 * @typedef {{state: State, code: number, reason: string, attempt: number, retryMs: number}} StateChange
 * @typedef {{onBusy?: Policy, options?: {[key: string]: unknown}}} How
 * @typedef {{frame: ClientMessage, transmitted: boolean, accepted: boolean}} Unfinished
 *
 * @typedef {object} Socket what is used of a WebSocket
 * @property {string} protocol
 * @property {((event: any) => void)|null} onopen
 * @property {((event: any) => void)|null} onmessage
 * @property {((event: any) => void)|null} onclose
 * @property {((event: any) => void)|null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 *
 * @typedef {object} Options
 * @property {string|null} [after] a stored position to go on from
 * @property {() => Promise<Minted|null|false>} [mint] fetches a `ws_token`, see `Credential`
 * @property {new (url: string, protocols: string[]) => Socket} [WebSocket] for a node without one: the `ws` package's
 *
 * @typedef {{session_ready: SessionReady & {whole: boolean}}} Whole is nothing missing between the last connection and this?
 * @typedef {{state: StateChange, turn: Turn, "*": ServerFrame & {local?: true}}} Own local: our ending of what never left
 * @typedef {ServerFrames & Whole & Own} Events what one can listen to
 */

/** What are no frame types: a server's frame that has such a name is told to `*` only. */
const OWN_EVENTS = new Set(["state", "turn", "*"]);

/** A random id, also where `crypto.randomUUID` is missing (plain http on another host is no secure context). */
export function randomId() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Connect, under a new session id if the address has none.
 * @param {string} url of `/chat-ws` @param {Options} [options]
 */
export function connect(url, options) {
  const address = new URL(url);
  if (!address.searchParams.has("session_id")) address.searchParams.set("session_id", randomId());
  const chat = new Trialogue(address.href, options);
  chat.open();
  return chat;
}

/** The ids in `session_ready.running` and `.queued`: one id, a list, or none. @param {unknown} value */
const idsIn = (value) => [value].flat().filter((x) => typeof x === "string");

// ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Why a turn has no answer. `code` is the server's (`WS-003`, `RAG-001`, a pipeline's own), or one of ours: `closed`
 * (the connection has ended for good), `lost` (the server no longer knows how it ended), `too_long`, `anew` (only from
 * an iterator: what it has given is no longer part of the answer, which has begun again).
 */
export class TrialogueError extends Error {
  /**
   * @param {string} code @param {string} message
   * @param {{solutions?: string[], retryAfterMs?: number|null, retryable?: boolean}} [more]
   */
  constructor(code, message, { solutions = [], retryAfterMs = null, retryable } = {}) {
    super(message);
    this.name = "TrialogueError";
    this.code = code;
    /** What a person can do about it. */
    this.solutions = solutions;
    /** When it is worth trying again, if the server said so. */
    this.retryAfterMs = retryAfterMs;
    /** Is it worth sending the same content again, as a new message? */
    this.retryable = retryable ?? (SERVERS_OWN.test(code) && !NOT_RETRYABLE.has(code));
  }
}

// ── An answer ───────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * @typedef {"sending"|"queued"|"waiting"|"retrieving"|"generating"|"ended"} Phase
 * @typedef {"stop"|"length"|"cancelled"|"interrupted"|"retracted"|"failed"|"rejected"|"lost"} Ending a finish_reason;
 *   "failed": an error; "rejected": refused, it was never a turn; "lost": nobody can tell us how it ended
 *
 * @typedef {object} Ended
 * @property {Ending} ending
 * @property {string} text all that came
 * @property {number} tokens how many
 * @property {boolean} whole is nothing of what the server sent missing in `text`?
 * @property {number|null} ms the server's time for it
 * @property {{[key: string]: unknown}|null} meta what the pipeline told at its end
 * @property {TrialogueError|null} error for "failed", "rejected" and "lost"
 *
 * @typedef {object} Seen what a cancelled turn leaves behind
 * @property {Ending} ending "cancelled", unless it had ended before
 * @property {string} text
 * @property {number} tokens
 * @property {Promise<StreamReceipt|null>} receipt
 *
 * @typedef {{cancel: (id: string) => void, ack: (id: string, index: number) => void}} Wire
 */

/** The doors through which this module's Trialogue reaches a turn; nobody else does. */
/** @type {(id: string, question: string|null, mine: boolean, wire: Wire) => Turn} */ let makeTurn;
/** @type {(turn: Turn, frame: any) => void} */ let feed;
/** @type {(turn: Turn, error: TrialogueError) => void} nothing more will be heard of it */ let forsake;

/** A question and its answer, as it comes: iterate it for the tokens, or look at it whenever you like. */
export class Turn {
  /** The message id. @readonly */ id;
  /** Was it asked through this client? Else another device did. @readonly */ mine;
  /** How it ended; never rejects. @readonly @type {Promise<Ended>} */ ended;
  /** How much was generated, sent and seen; null when nobody will tell. @readonly @type {Promise<StreamReceipt|null>} */ receipt;
  #wire;
  /** @type {string|null} */ #question;
  #accepted = false;
  /** @type {string|null} the timestamp of its `stream_start`: the same again is the same answer */ #started = null;
  #answer = 0; // counts the answers: another one only when a restarted server has begun anew
  #text = "";
  /** @type {string[]} */ #tokens = [];
  #next = 0; // the index of the token to come
  #whole = true;
  /** @type {Phase} */ #phase = "sending";
  /** @type {number|null} */ #place = null;
  /** @type {Source[]} */ #sources = [];
  /** @type {Ended|null} */ #end = null;
  /** @type {Set<() => void>} iterators that wait for news */ #waiting = new Set();
  /** @type {(end: Ended) => void} */ #settleEnd = () => {};
  /** @type {(receipt: StreamReceipt|null) => void} */ #settleReceipt = () => {};

  static {
    makeTurn = (id, question, mine, wire) => new Turn(id, question, mine, wire);
    feed = (turn, frame) => turn.#apply(frame);
    forsake = (turn, error) => turn.#forsake(error);
  }

  /** @private @param {string} id @param {string|null} question @param {boolean} mine @param {Wire} wire */
  constructor(id, question, mine, wire) {
    this.id = id;
    this.mine = mine;
    this.#question = question;
    this.#wire = wire;
    this.ended = new Promise((settle) => { this.#settleEnd = settle; });
    this.receipt = new Promise((settle) => { this.#settleReceipt = settle; });
  }

  /** What was asked; null if we came too late to hear it. */
  get question() { return this.#question; }
  /** The answer so far. */
  get text() { return this.#text; }
  /** How many tokens of it have come. */
  get tokens() { return this.#tokens.length; }
  get phase() { return this.#phase; }
  /** While it is queued: 1 is the next. */
  get place() { return this.#place; }
  /** What it rests on, once the pipeline has told. */
  get sources() { return this.#sources; }
  /** Null while it goes on. */
  get ending() { return this.#end && this.#end.ending; }

  /**
   * Stop it. Resolves when it has ended, with what had come until then; on a turn that has ended, at once.
   * @returns {Promise<Seen>}
   */
  async cancel() {
    if (this.#end === null) this.#wire.cancel(this.id);
    const { ending, text, tokens } = await this.ended;
    return { ending, text, tokens, receipt: this.receipt };
  }

  /**
   * Its tokens, from the first, whenever you begin. A token counts as seen (and is acknowledged) when the next is asked
   * for. Ends when the turn does; throws its error if that is "failed", "rejected" or "lost".
   * @returns {AsyncGenerator<string, void, undefined>}
   */
  async *[Symbol.asyncIterator]() {
    let answer = this.#answer, next = 0;
    for (;;) {
      if (next === 0) answer = this.#answer;
      if (answer !== this.#answer) throw new TrialogueError("anew", "the answer has begun again", { retryable: false });
      if (next < this.#tokens.length) {
        try { yield this.#tokens[next]; } finally { this.#shown(answer, next); }
        next += 1;
      } else if (this.#end === null) {
        await new Promise((wake) => this.#waiting.add(/** @type {() => void} */ (wake)));
      } else if (this.#end.error !== null) {
        throw this.#end.error;
      } else {
        return;
      }
    }
  }

  /** @param {number} answer @param {number} index */
  #shown(answer, index) {
    if (answer === this.#answer && this.#whole) this.#wire.ack(this.id, index);
  }

  /** @param {any} frame one of this turn's, of any type */
  #apply(frame) {
    if (frame.type === "stream_receipt") this.#settleReceipt(frame);
    if (this.#end !== null) return; // a replay of what we know
    switch (frame.type) {
      case "user_message":
        this.#accepted = true;
        this.#question = frame.content;
        break;
      case "stream_start":
        this.#start(frame.timestamp);
        break;
      case "stream_token":
        this.#token(frame.token, frame.index);
        break;
      case "stream_sources":
        if (Array.isArray(frame.sources)) this.#sources = frame.sources;
        break;
      case "stream_status":
        this.#status(frame.phase, frame.place);
        break;
      case "stream_end":
        this.#whole &&= frame.total_tokens === this.#next;
        this.#finish(frame.finish_reason, null, frame);
        break;
      case "stream_error":
        this.#fail(this.#accepted ? "failed" : "rejected", frame);
        break;
    }
    this.#tellIterators();
  }

  /** @param {string} timestamp */
  #start(timestamp) {
    this.#accepted = true;
    if (timestamp === this.#started) return; // told again from index 0: what we have, we skip
    if (this.#started !== null || this.#next > 0) {
      this.#answer += 1;
      this.#text = "";
      this.#tokens = [];
      this.#next = 0;
      this.#whole = true;
      this.#sources = [];
    }
    this.#started = timestamp;
    this.#phase = "retrieving";
    this.#place = null;
  }

  /** @param {unknown} token @param {unknown} index */
  #token(token, index) {
    if (typeof token !== "string" || !Number.isSafeInteger(index)) return;
    const number = /** @type {number} */ (index);
    if (number < this.#next) return; // sent again
    this.#whole &&= number === this.#next;
    this.#next = number + 1;
    this.#text += token;
    this.#tokens.push(token);
    this.#phase = "generating";
    if (this.#text.length + this.#tokens.length <= MAX_ANSWER) return;
    this.#wire.cancel(this.id);
    this.#finish("failed", new TrialogueError("too_long", "the answer is longer than we keep", { retryable: false }));
  }

  /** @param {string} phase @param {unknown} place */
  #status(phase, place) {
    this.#accepted = true;
    // Tokens have come: an older phase that arrives late must not turn the answer back into waiting.
    const shown = phase === "queued" || phase === "waiting" || phase === "retrieving" || phase === "generating";
    if (!shown || this.#next > 0) return;
    this.#phase = phase;
    this.#place = phase === "queued" && typeof place === "number" ? place : null;
  }

  /** @param {Ending} ending @param {any} frame */
  #fail(ending, frame) {
    const more = { solutions: frame.solutions ?? [], retryAfterMs: frame.retry_after_ms ?? null };
    this.#finish(ending, new TrialogueError(String(frame.error_code), String(frame.message), more));
  }

  /** @param {TrialogueError} error */
  #forsake(error) {
    if (this.#end === null) this.#finish("lost", error);
    this.#settleReceipt(null);
    this.#tellIterators();
  }

  /** @param {Ending} ending @param {TrialogueError|null} error @param {any} [frame] */
  #finish(ending, error, frame = {}) {
    this.#phase = "ended";
    this.#place = null;
    const text = this.#text, tokens = this.#tokens.length, whole = this.#whole && ending !== "lost";
    this.#end = { ending, text, tokens, whole, ms: frame.processing_time_ms ?? null, meta: frame.meta ?? null, error };
    this.#settleEnd(this.#end);
    if (this.#started === null) this.#settleReceipt(null); // nothing was generated: nobody owes us one
  }

  #tellIterators() {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

// ── The connection ──────────────────────────────────────────────────────────────────────────────────────────────────

export class Trialogue {
  #url;
  #Socket;
  #sessionId;
  /** @type {{epoch: number, offset: number}|null} after which entry we go on; null before the first `session_ready` */
  #position;
  /** @type {Socket|null} */ #socket = null;
  /** @type {State} */ #state = "idle";
  #attempt = 0;
  #readyAt = 0;
  #lastSeen = 0;
  /** @type {number|null} set by `goaway`: the connection will end, and this is when to come back */ #goawayMs = null;
  /** The `goaway` said that our credential has expired: with a fresh one we may come back. */ #expired = false;
  /** @type {Credential|null} */ #credential;
  /** @type {any} one timer: handshake, liveness or the wait before a return — never two at a time */ #timer;
  /** @type {Map<string, Unfinished>} own messages without an ending, in the order of sending */ #unfinished = new Map();
  /** @type {Map<string, Turn>} those that somebody holds, or might */ #turns = new Map();
  /** @type {Set<string|null>} cancels that nobody has answered; null = everything, asked while away */ #cancels = new Set();
  /** @type {Map<string, number>} */ #acks = new Map();
  /** @type {any} */ #ackTimer = null;
  /** @type {Map<string, Set<Function>>} */ #listeners = new Map();

  /**
   * @param {string} url absolute, with `session_id` in its query and without `after`
   * @param {Options} [options]
   */
  constructor(url, { after = null, mint, WebSocket = /** @type {any} */ (globalThis).WebSocket } = {}) {
    if (typeof WebSocket !== "function") throw new TypeError("there is no WebSocket here: give one, in `options`");
    this.#url = url;
    this.#Socket = WebSocket;
    this.#credential = mint ? new Credential(mint) : null;
    this.#sessionId = new URL(url).searchParams.get("session_id") ?? "";
    this.#position = parsePosition(after);
  }

  // Public: what is so

  get state() { return this.#state; }
  get sessionId() { return this.#sessionId; }
  /** Ids of own messages that have no ending yet. */
  get unfinished() { return [...this.#unfinished.keys()]; }
  /** `epoch:offset` of what has come; store it, and go on from there with `after`. */
  get position() { return this.#position && `${this.#position.epoch}:${this.#position.offset}`; }

  /**
   * Listen to a frame type, to `state` (a StateChange), to `turn` (a Turn that another device has asked; also what is
   * still in the log when we come), or to `*` (every frame).
   * @template {keyof Events} Type
   * @param {Type} type @param {(detail: Events[Type]) => void} listener
   * @returns {() => void} takes the listener away again
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  // Public: what to do

  /** Connect; does nothing on a client that is connected or on its way. */
  open() {
    if (this.#socket === null && this.#state !== "connecting") this.#connect();
  }

  /** Leave for good: if nobody else is attached, the running turn is stopped. */
  close() {
    this.#discard(1000);
    this.#stopped({ code: 1000, reason: "closed here" });
  }

  /** Come back at once instead of after the back-off (the network is there again, the user asks). */
  retryNow() {
    if (this.#state === "waiting" || this.#state === "stopped") this.#connect();
  }

  /** Go on over another URL of the same session (another language, a fresh token); nothing is lost or stopped. */
  reconnect(url = this.#url) {
    this.#url = url;
    if (this.#state === "idle" || this.#state === "stopped") return;
    this.#discard(CODE_BACK_SOON);
    this.#connect();
  }

  /**
   * Ask something. While away it is kept and sent after the return.
   * @param {string} content @param {How} [how]
   * @returns {Turn} the answer, as it comes
   */
  ask(content, how) {
    const id = this.send(content, how);
    return this.#follow(id, content, true);
  }

  /**
   * Submit a turn without holding its answer: for those who listen to the frames.
   * @param {string} content @param {How} [how]
   * @returns {string} its message id
   */
  send(content, { onBusy, options } = {}) {
    if (this.#unfinished.size >= MAX_UNFINISHED) throw new RangeError("too many unfinished messages");
    const id = randomId();
    const away = this.#state !== "ready" || this.#goawayMs !== null; // a leaving server would refuse: keep it for the next
    // Typed one after another while away, they'd all go out at once, each interrupting the one before: let them queue.
    const held = away && [...this.#unfinished.values()].some((entry) => !entry.accepted);
    const policy = onBusy ?? (held ? "enqueue" : undefined);
    /** @type {ClientMessage} */
    const frame = { type: "message", message_id: id, content, session_id: this.#sessionId };
    if (policy !== undefined) frame.on_busy = policy;
    if (options !== undefined) frame.options = options;
    const entry = { frame, transmitted: false, accepted: false };
    this.#unfinished.set(id, entry);
    this.#flushAcks(); // what was seen until now, before this message interrupts it
    if (!away) this.#submit(entry);
    return id;
  }

  /** Stop that turn, running or queued; without an id, all of this session's. @param {string} [id] */
  cancel(id) {
    this.#flushAcks();
    const asked = (id === undefined ? [null, ...this.unfinished] : [id]).filter((one) => !this.#withdraw(one));
    // Said again after a drop, until they are answered: but not "everything", which by then may be something else.
    for (const one of asked) if (one !== null || this.#state !== "ready") this.#cancels.add(one);
    if (id === undefined) this.#transmit({ type: "cancel" });
    else if (asked.length) this.#transmit({ type: "cancel", message_id: id });
  }

  /**
   * The tokens of this turn up to `index` have been shown. Joined: at most two frames a second. Whoever iterates a Turn
   * need not call it. @param {string} id @param {number} index
   */
  ack(id, index) {
    this.#acks.delete(id);
    this.#acks.set(id, index);
    if (this.#acks.size > MAX_TURNS) this.#acks.delete(this.#acks.keys().next().value ?? "");
    this.#ackTimer ??= setTimeout(() => this.#flushAcks(), ACK_MS);
  }

  /** @param {boolean} active */
  typing(active) { this.#transmit({ type: "typing", active }); }

  /** Renew this connection's credential. @param {string} token */
  auth(token) { this.#transmit({ type: "auth", token }); }

  // The socket

  #connect() {
    clearTimeout(this.#timer);
    this.#goawayMs = null;
    this.#expired = false;
    this.#readyAt = 0;
    this.#timer = setTimeout(() => this.#abandon("no handshake"), HANDSHAKE_MS);
    if (this.#credential === null) this.#dial(null);
    else this.#fetchToken(this.#credential);
    this.#become("connecting");
  }

  /** @param {Credential} credential */
  async #fetchToken(credential) {
    let taken;
    try {
      taken = await credential.take((token) => this.auth(token));
    } catch (error) {
      this.#abandon(String(error));
      return;
    }
    if (taken === null) return; // another connect, or none at all, has taken its place
    if (taken.token === false) this.#stop(1008, "no credential");
    else this.#dial(taken.token);
  }

  /** @param {string|null} token */
  #dial(token) {
    const after = this.position;
    const fields = [...(after === null ? [] : [`after=${after}`]), ...(token === null ? [] : [`ws_token=${token}`])];
    const url = [this.#url, ...fields].join("&"); // it has a query, with the session's id
    const socket = new this.#Socket(url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) this.#stop(1008, `the server does not speak ${SUBPROTOCOL}`);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#gone(event.code, event.reason);
    socket.onerror = () => {}; // its close event follows; without a listener node's `ws` would throw
  }

  /** Forget the socket without waiting for its close event, which a dead network may delay for minutes. @param {number} code */
  #discard(code) {
    clearTimeout(this.#timer);
    this.#credential?.drop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** @param {string} reason */
  #abandon(reason) {
    this.#discard(CODE_BACK_SOON);
    this.#gone(1006, reason);
  }

  /** @param {number} code @param {string} reason */
  #stop(code, reason) {
    this.#discard(CODE_BACK_SOON);
    this.#stopped({ code, reason });
  }

  /** Nobody will come back by itself: whoever waits for a turn is told. @param {{code: number, reason: string}} why */
  #stopped(why) {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    this.#become("stopped", why);
    for (const [id, turn] of this.#turns) {
      this.#unfinished.delete(id); // its asker has been told that it is over: it must not be sent again
      forsake(turn, new TrialogueError("closed", `the connection has ended: ${why.code} ${why.reason}`.trim()));
    }
    this.#turns.clear();
  }

  /**
   * The connection has ended and we did not ask for it: come back, unless the code says that it is of no use.
   * @param {number} code @param {string} reason
   */
  #gone(code, reason) {
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#credential?.drop();
    const again = this.#expired && this.#credential !== null;
    if (FINAL_CODES.has(code) && !again) return this.#stopped({ code, reason });
    if (this.#readyAt && Date.now() - this.#readyAt > STABLE_MS) this.#attempt = 0;
    const jitter = 0.5 + Math.random() / 2;
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.#attempt) * jitter;
    // Told when to return: not earlier, and a little spread, for everybody else was told the same.
    const retryMs = Math.round(this.#goawayMs === null ? backoff : this.#goawayMs * (1 + Math.random() / 4));
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), retryMs);
    this.#become("waiting", { code, reason, retryMs });
  }

  /** Idle for long: ask. Any frame is a sign of life, the pong is merely the one that we can count on. */
  #watch() {
    const idle = Date.now() - this.#lastSeen;
    if (idle < IDLE_MS) {
      this.#timer = setTimeout(() => this.#watch(), IDLE_MS - idle);
      return;
    }
    const asked = Date.now();
    this.#transmit({ type: "ping", id: randomId() });
    this.#timer = setTimeout(() => (this.#lastSeen >= asked ? this.#watch() : this.#abandon("no pong")), PONG_MS);
  }

  /** @param {ClientFrame} frame @returns {boolean} handed to the socket; not a promise that it arrives */
  #transmit(frame) {
    if (this.#state !== "ready" || this.#socket === null) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** @param {Unfinished} entry @param {ClientMessage} [frame] */
  #submit(entry, frame = entry.frame) {
    entry.transmitted = this.#transmit(frame) || entry.transmitted;
  }

  /** @param {string|null} id @returns {boolean} it had never left: nobody else will write its ending, so we have */
  #withdraw(id) {
    if (id === null || this.#unfinished.get(id)?.transmitted !== false) return false;
    this.#unfinished.delete(id);
    this.#tell({ type: "stream_end", message_id: id, total_tokens: 0, processing_time_ms: 0,
      finish_reason: "cancelled", local: true });
    return true;
  }

  #flushAcks() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    if (this.#state !== "ready") return; // they go out after the return
    for (const [id, index] of this.#acks) this.#transmit({ type: "ack", message_id: id, index });
    this.#acks.clear();
  }

  // Frames

  /** @param {string} text */
  #receive(text) {
    this.#lastSeen = Date.now();
    let frame;
    try { frame = JSON.parse(text); } catch { return; }
    if (frame === null || typeof frame !== "object") return;
    if (frame.type === "session_ready") return this.#ready(frame);
    if (frame.type === "goaway") {
      this.#goawayMs = Number(frame.retry_after_ms) || 0;
      this.#expired = frame.reason === "expired";
    }
    this.#advance(frame);
    this.#settle(frame);
    this.#tell(frame);
  }

  /** @param {{epoch?: number, offset?: number}} frame */
  #advance({ epoch, offset }) {
    if (this.#position === null || !isCount(offset)) return; // a reply: it has no place in the log
    if (isCount(epoch)) this.#position.epoch = epoch;
    this.#position.offset = offset;
    this.#attempt = 0; // it got us further: what failed before is forgiven
  }

  /** What a frame tells about our own: that a message was accepted or has its ending, that a cancel was heard. @param {any} frame */
  #settle({ type, message_id: id }) {
    const ends = type === "stream_end" || type === "stream_error";
    if (ends || type === "cancel_result") this.#cancels.delete(id);
    const entry = this.#unfinished.get(id);
    if (entry === undefined) return;
    if (ends) this.#unfinished.delete(id);
    else if (type === "user_message" || type === "stream_start" || type === "stream_status") entry.accepted = true;
  }

  /** @param {SessionReady} frame */
  #ready(frame) {
    // Without a hole: everything that we miss follows. Otherwise endings may be among what is gone.
    const whole = frame.resumed === "replayed" || this.#position === null;
    this.#position = parsePosition(frame.position);
    this.#readyAt = this.#lastSeen;
    clearTimeout(this.#timer);
    this.#become("ready");
    this.#watch();
    this.#emit("session_ready", { ...frame, whole });
    const alive = whole ? null : new Set([...idsIn(frame.running), ...idsIn(frame.queued)]);
    this.#resend(alive);
    this.#flushAcks();
    if (alive !== null) this.#mourn(alive);
  }

  /**
   * Say again what may not have arrived. Safe, for the same id never generates twice.
   * @param {Set<string>|null} alive after a hole: the turns that the server still works on; null = there is no hole
   */
  #resend(alive) {
    if (this.#cancels.delete(null)) this.#transmit({ type: "cancel" });
    for (const [id, entry] of this.#unfinished) {
      if (!entry.accepted) this.#submit(entry);
      // Accepted, but its ending is in the hole: ask for it. A restarted server answers it anew; that must disturb nobody.
      else if (alive !== null && !alive.has(id)) this.#submit(entry, { ...entry.frame, on_busy: "enqueue" });
    }
    for (const id of this.#cancels) if (id !== null) this.#transmit({ type: "cancel", message_id: id });
  }

  /** After a hole: others' turns that nobody works on any more have ended, we don't know how. @param {Set<string>} alive */
  #mourn(alive) {
    for (const [id, turn] of this.#turns) {
      if (turn.ending === null && !turn.mine && !alive.has(id)) {
        forsake(turn, new TrialogueError("lost", "it ended while we were away", { retryable: false }));
      }
    }
  }

  // Turns

  /** @param {string} id @param {string|null} question @param {boolean} mine */
  #follow(id, question, mine) {
    const turn = makeTurn(id, question, mine, this);
    this.#turns.set(id, turn);
    if (this.#turns.size > MAX_TURNS) {
      const [oldest, gone] = [...this.#turns].find(([, one]) => one.ending !== null) ?? [...this.#turns][0];
      this.#turns.delete(oldest);
      forsake(gone, new TrialogueError("lost", "more turns at once than we follow", { retryable: false }));
    }
    return turn;
  }

  /** Hand a frame to its turn; one that nobody here has asked, and that begins, becomes one if somebody wants to know. @param {any} frame */
  #hand(frame) {
    const id = frame.message_id;
    let turn = this.#turns.get(id);
    const begins = frame.type === "user_message" || frame.type === "stream_start";
    const wanted = begins && typeof id === "string" && !this.#unfinished.has(id) && this.#listeners.get("turn")?.size;
    if (turn === undefined && !wanted) return;
    const fresh = turn === undefined;
    turn ??= this.#follow(id, null, false);
    feed(turn, frame);
    if (frame.type === "stream_receipt") this.#turns.delete(id); // the last that is said of a turn
    if (fresh) this.#emit("turn", turn);
  }

  // Telling the listeners

  /** @param {any} frame */
  #tell(frame) {
    this.#hand(frame);
    this.#emit(OWN_EVENTS.has(frame.type) ? "*" : frame.type, frame);
  }

  /** @param {State} state */
  #become(state, { code = 0, reason = "", retryMs = 0 } = {}) {
    this.#state = state;
    this.#emit("state", { state, code, reason, retryMs, attempt: this.#attempt });
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    const all = OWN_EVENTS.has(type) ? [] : [...(this.#listeners.get("*") ?? [])];
    for (const listener of [...(this.#listeners.get(type) ?? []), ...all]) {
      // One listener's fault must not cost the others their frame, nor us the socket.
      try { listener(detail); } catch (error) { setTimeout(() => { throw error; }); }
    }
  }
}

/** @param {unknown} value @returns {value is number} */
const isCount = (value) => Number.isSafeInteger(value);

/** @param {unknown} text `epoch:offset` */
function parsePosition(text) {
  const match = /^(\d+):(\d+)$/.exec(typeof text === "string" ? text : "");
  return match && { epoch: Number(match[1]), offset: Number(match[2]) };
}

// ── A credential ────────────────────────────────────────────────────────────────────────────────────────────────────

const RENEW_AT = 0.8; // of its life: time enough to try, and not so often that anybody notices
const MIN_DELAY_MS = 1000; // a token that is as good as dead is no reason to ask without pause
const MAX_DELAY_MS = 2 ** 31 - 1; // of a browser's timer

/** @typedef {{ws_token: string, expires_in: number}} Minted what `POST /auth/ws-token` answers */

/**
 * A client's credential: fetched before each connect, and again in time before it expires.
 *
 * It knows neither sockets nor keys: `mint` fetches, and whoever asked is told of each newer token. The newest `take`
 * counts; what an older one still brings is dropped.
 */
class Credential {
  #mint;
  /** @type {any} */ #timer;
  #taken = 0;

  /** @param {() => Promise<Minted|null|false>} mint null: none is needed; false: there will be none; throws: try later */
  constructor(mint) { this.#mint = mint; }

  /**
   * @param {(token: string) => void} renewed told of each newer token, until `drop`
   * @returns {Promise<{token: string|null|false}|null>} null: somebody else took one meanwhile. Rejects as `mint` does.
   */
  async take(renewed) {
    this.drop();
    const number = this.#taken;
    /** @type {Minted|null|false} */
    let minted = null;
    try {
      minted = await this.#mint();
    } catch (error) {
      if (number === this.#taken) throw error;
    }
    if (number !== this.#taken) return null;
    if (minted) this.#renewLater(minted.expires_in, renewed);
    return { token: minted && minted.ws_token };
  }

  /** Nobody needs it any more. */
  drop() {
    this.#taken += 1;
    clearTimeout(this.#timer);
  }

  /** @param {number} seconds @param {(token: string) => void} renewed */
  #renewLater(seconds, renewed) {
    const renew = () => this.take(renewed).then((taken) => { if (taken?.token) renewed(taken.token); }, () => {});
    this.#timer = setTimeout(renew, Math.min(Math.max(seconds * 1000 * RENEW_AT, MIN_DELAY_MS), MAX_DELAY_MS));
  }
}
