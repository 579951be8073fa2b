/**
 * The Trialogue client: one WebSocket that speaks `trialogue.v1`, kept alive across drops. No dependency, no build.
 *
 *   const chat = new Trialogue("wss://host/chat-ws?session_id=s1");
 *   chat.on("stream_token", (frame) => …);   chat.on("state", ({ state }) => …);   chat.open();
 *   const id = chat.send("hello");           chat.cancel(id);                      chat.close();
 *
 * It knows positions, re-sending and liveness, and nothing of a page: no DOM, no storage, no language.
 * It must never give one message a second id (the id is what makes re-sending safe), and never close with code 1000
 * except in `close()`: from the last connection of a session, 1000 means "stop the running turn".
 */

import { Credential } from "./credential.js";

export const SUBPROTOCOL = "trialogue.v1";

/** Codes after which coming back would only repeat the refusal; after all others we return. */
const FINAL_CODES = new Set([1000, 1003, 1008, 1009]);
/** Our own code for "this socket is given up, I shall be back": any code but 1000 lets the turn go on. */
const CODE_BACK_SOON = 4001;

const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const STABLE_MS = 5_000; // a connection that lived this long forgives earlier failures
const HANDSHAKE_MS = 15_000;
const IDLE_MS = 20_000;
const PONG_MS = 10_000;
const ACK_MS = 500;
/** Messages without an ending that we keep for re-sending. When it is full, `send` throws. */
export const MAX_UNFINISHED = 32;

/**
 * @typedef {{type: string, message_id?: string, [key: string]: any}} Frame
 * @typedef {"idle"|"connecting"|"ready"|"waiting"|"stopped"} State
 * @typedef {{state: State, code: number, reason: string, attempt: number, retryMs: number}} StateChange
 * @typedef {{frame: Frame, transmitted: boolean, accepted: boolean}} Unfinished
 */

/** A random id, also where `crypto.randomUUID` is missing (plain http on another host is no secure context). */
export function randomId() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The ids in `session_ready.running` and `.queued`: one id, a list, or none. */
const idsIn = (value) => [value].flat().filter((x) => typeof x === "string");

export class Trialogue {
  #url;
  #sessionId;
  /** @type {{epoch: number, offset: number}|null} after which entry we go on; null before the first `session_ready` */
  #position;
  /** @type {WebSocket|null} */ #socket = null;
  /** @type {State} */ #state = "idle";
  #attempt = 0;
  #readyAt = 0;
  #lastSeen = 0;
  /** @type {number|null} set by `goaway`: the connection will end, and this is when to come back */ #goawayMs = null;
  /** The `goaway` said that our credential has expired: with a fresh one we may come back. */ #expired = false;
  /** @type {Credential|null} */ #credential;
  #timer; // one timer: handshake, liveness or the wait before a return — never two at a time
  /** @type {Map<string, Unfinished>} own messages without an ending, in the order of sending */ #unfinished = new Map();
  /** @type {Set<string|null>} cancels asked for while away; null = everything */ #cancels = new Set();
  /** @type {Map<string, number>} */ #acks = new Map();
  #ackTimer = null;
  /** @type {Map<string, Set<Function>>} */ #listeners = new Map();

  /**
   * @param {string} url absolute, with `session_id` in its query and without `after`
   * @param {{after?: string|null, mint?: () => Promise<import("./credential.js").Minted|null|false>}} [options]
   *   `after`: a stored position to go on from. `mint`: fetches a `ws_token`, see credential.js
   */
  constructor(url, { after = null, mint } = {}) {
    this.#url = url;
    this.#credential = mint ? new Credential(mint) : null;
    this.#sessionId = new URL(url).searchParams.get("session_id") ?? "";
    this.#position = parsePosition(after);
  }

  // Public: what is so

  get state() { return this.#state; }
  /** Ids of own messages that have no ending yet. */
  get unfinished() { return [...this.#unfinished.keys()]; }
  get position() { return this.#position && `${this.#position.epoch}:${this.#position.offset}`; }

  /**
   * Listen to a frame type, to `state` (a StateChange), or to `*` (every frame).
   * @param {string} type @param {(detail: any) => void} listener @returns {() => void} takes the listener away again
   */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  // Public: what to do

  /** Connect; does nothing on a client that is connected or on its way. */
  open() {
    if (this.#socket === null && this.#state !== "connecting") this.#connect();
  }

  /** Leave for good: if nobody else is attached, the running turn is stopped. */
  close() {
    this.#discard(1000);
    this.#become("stopped", { code: 1000 });
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
   * Submit a turn. While away it is kept and sent after the return.
   * @param {string} content
   * @param {{onBusy?: "interrupt"|"enqueue"|"reject"|"rollback", options?: object}} [how]
   * @returns {string} its message id
   */
  send(content, { onBusy, options } = {}) {
    if (this.#unfinished.size >= MAX_UNFINISHED) throw new RangeError("too many unfinished messages");
    const id = randomId();
    const away = this.#state !== "ready" || this.#goawayMs !== null; // a leaving server would refuse: keep it for the next
    // Typed one after another while away, they'd all go out at once, each interrupting the one before: let them queue.
    const held = away && [...this.#unfinished.values()].some((entry) => !entry.accepted);
    const policy = onBusy ?? (held ? "enqueue" : undefined);
    const frame = { type: "message", message_id: id, content, session_id: this.#sessionId };
    if (policy !== undefined) frame.on_busy = policy;
    if (options !== undefined) frame.options = options;
    this.#unfinished.set(id, { frame, transmitted: false, accepted: false });
    this.#flushAcks(); // what was seen until now, before this message interrupts it
    if (!away) this.#submit(id, frame);
    return id;
  }

  /** Stop that turn, running or queued; without an id, all of this session's. @param {string} [id] */
  cancel(id) {
    this.#flushAcks();
    const asked = (id === undefined ? [null, ...this.unfinished] : [id]).filter((one) => !this.#withdraw(one));
    if (this.#state !== "ready") asked.forEach((one) => this.#cancels.add(one));
    else if (id === undefined) this.#transmit({ type: "cancel" });
    else if (asked.length) this.#transmit({ type: "cancel", message_id: id });
  }

  /** The tokens of this turn up to `index` have been shown. Joined: at most two frames a second. */
  ack(id, index) {
    this.#acks.set(id, index);
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
    else this.#fetchToken();
    this.#become("connecting");
  }

  async #fetchToken() {
    let taken;
    try {
      taken = await this.#credential.take((token) => this.auth(token));
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
    const socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) this.#stop(1008, `the server does not speak ${SUBPROTOCOL}`);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#gone(event.code, event.reason);
  }

  /** Forget the socket without waiting for its close event, which a dead network may delay for minutes. */
  #discard(code) {
    clearTimeout(this.#timer);
    this.#credential?.drop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #abandon(reason) {
    this.#discard(CODE_BACK_SOON);
    this.#gone(1006, reason);
  }

  #stop(code, reason) {
    this.#discard(CODE_BACK_SOON);
    this.#become("stopped", { code, reason });
  }

  /** The connection has ended and we did not ask for it: come back, unless the code says that it is of no use. */
  #gone(code, reason) {
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#credential?.drop();
    const again = this.#expired && this.#credential !== null;
    if (FINAL_CODES.has(code) && !again) return this.#become("stopped", { code, reason });
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

  /** @returns {boolean} handed to the socket; not a promise that it arrives */
  #transmit(frame) {
    if (this.#state !== "ready") return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #submit(id, frame) {
    const entry = this.#unfinished.get(id);
    entry.transmitted = this.#transmit(frame) || entry.transmitted;
  }

  /** @returns {boolean} it had never left: nobody else will write its ending, so we have */
  #withdraw(id) {
    if (this.#unfinished.get(id)?.transmitted !== false) return false;
    this.#unfinished.delete(id);
    this.#emit("stream_end", { type: "stream_end", message_id: id, total_tokens: 0, processing_time_ms: 0,
      finish_reason: "cancelled", local: true });
    return true;
  }

  #flushAcks() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    for (const [id, index] of this.#acks) this.#transmit({ type: "ack", message_id: id, index });
    this.#acks.clear();
  }

  // Frames

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
    this.#emit(frame.type, frame);
  }

  #advance({ epoch, offset }) {
    if (this.#position === null || !Number.isSafeInteger(offset)) return; // a reply: it has no place in the log
    if (Number.isSafeInteger(epoch)) this.#position.epoch = epoch;
    this.#position.offset = offset;
  }

  /** What a frame tells about our own message: that it was accepted, or that it has its ending. */
  #settle({ type, message_id: id }) {
    const entry = this.#unfinished.get(id);
    if (entry === undefined) return;
    if (type === "stream_end" || type === "stream_error") this.#unfinished.delete(id);
    else if (type === "user_message" || type === "stream_start" || type === "stream_status") entry.accepted = true;
  }

  #ready(frame) {
    // Without a hole: everything that we miss follows. Otherwise endings may be among what is gone.
    const whole = frame.resumed === "replayed" || this.#position === null;
    this.#position = parsePosition(frame.position);
    this.#readyAt = this.#lastSeen;
    clearTimeout(this.#timer);
    this.#become("ready");
    this.#watch();
    this.#emit("session_ready", { ...frame, whole });
    this.#resend(whole ? null : new Set([...idsIn(frame.running), ...idsIn(frame.queued)]));
  }

  /**
   * Say again what may not have arrived. Safe, for the same id never generates twice.
   * @param {Set<string>|null} alive after a hole: the turns that the server still works on; null = there is no hole
   */
  #resend(alive) {
    if (this.#cancels.delete(null)) this.#transmit({ type: "cancel" });
    for (const [id, entry] of this.#unfinished) {
      if (!entry.accepted) this.#submit(id, entry.frame);
      // Accepted, but its ending is in the hole: ask for it. A restarted server answers it anew; that must disturb nobody.
      else if (alive !== null && !alive.has(id)) this.#submit(id, { ...entry.frame, on_busy: "enqueue" });
    }
    for (const id of this.#cancels) this.#transmit({ type: "cancel", message_id: id });
    this.#cancels.clear();
  }

  // Telling the listeners

  /** @param {State} state */
  #become(state, { code = 0, reason = "", retryMs = 0 } = {}) {
    this.#state = state;
    this.#emit("state", { state, code, reason, retryMs, attempt: this.#attempt });
  }

  #emit(type, detail) {
    const listeners = [...(this.#listeners.get(type) ?? []), ...(type === "state" ? [] : this.#listeners.get("*") ?? [])];
    for (const listener of listeners) {
      // One listener's fault must not cost the others their frame, nor us the socket.
      try { listener(detail); } catch (error) { setTimeout(() => { throw error; }); }
    }
  }
}

/** @param {unknown} text `epoch:offset` */
function parsePosition(text) {
  const match = /^(\d+):(\d+)$/.exec(typeof text === "string" ? text : "");
  return match && { epoch: Number(match[1]), offset: Number(match[2]) };
}
