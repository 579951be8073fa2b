/**
 * The turns of the conversation on screen: a fold over the frames of `trialogue.v1`, in one Map.
 *
 * It must not touch the DOM, the socket or a clock: what is shown is a function of this state alone, so a live answer, a
 * replay after a reload and a second tab look the same.
 */

/**
 * `ending`: null while the turn is unfinished; else a finish_reason, or "failed" (a stream_error), "rejected" (refused
 * before it became a turn), "lost" (it ended while we were away and the log no longer says how).
 * @typedef {"stop"|"length"|"cancelled"|"interrupted"|"retracted"|"failed"|"rejected"|"lost"} Ending
 * @typedef {{title?: string, score?: number, content_preview?: string}} Source
 * @typedef {{code: string, message: string, solutions: string[]}} Failure
 * @typedef {{generated: number, sent: number, acked: number|null, upstream: "closed"|"abandoned"}} Receipt
 * @typedef {object} Turn
 * @property {string} id
 * @property {string|null} question null: we came in the middle and were not told
 * @property {boolean} accepted the session has taken the message
 * @property {boolean} started its answer has begun
 * @property {boolean} stopping the user has asked for its end
 * @property {string} text the answer so far
 * @property {number} next the index of the token to come
 * @property {string} phase sending | queued | waiting | retrieving | generating
 * @property {number|null} place in the queue
 * @property {Source[]} sources
 * @property {Ending|null} ending
 * @property {Failure|null} failure
 * @property {{tokens: number, ms: number}|null} totals
 * @property {Receipt|null} receipt comes after the end, when it is true
 */

/** @returns {Turn} */
const newTurn = (id) => ({
  id, question: null, accepted: false, started: false, stopping: false, text: "", next: 0, phase: "sending", place: null,
  sources: [], ending: null, failure: null, totals: null, receipt: null,
});

/** Frames that make a turn when they are the first that we see of it; the others alone say too little for a bubble. */
const MAKES_A_TURN = new Set(["user_message", "stream_start", "stream_token"]);
const CHANGES_A_TURN = new Set([...MAKES_A_TURN, "stream_sources", "stream_status", "stream_end", "stream_error",
  "stream_receipt"]);
const PHASES = new Set(["queued", "waiting", "retrieving", "generating"]);

export class Turns {
  /** @type {Map<string, Turn>} in the order in which they were asked */
  #turns = new Map();

  /** @param {string} id @returns {Turn|undefined} */
  get(id) { return this.#turns.get(id); }
  /** @returns {Turn[]} */
  get all() { return [...this.#turns.values()]; }
  /** @returns {Turn[]} */
  get unfinished() { return this.all.filter((turn) => turn.ending === null); }
  /** @returns {Turn|undefined} the latest whose question we know */
  get latest() { return this.all.findLast((turn) => turn.question !== null); }
  /** What Stop would stop: the turn that answers; before there is one, the latest. @returns {Turn|undefined} */
  get current() {
    const open = this.unfinished.filter((turn) => !turn.stopping);
    return open.find((turn) => turn.phase === "generating" || turn.phase === "retrieving") ?? open.at(-1);
  }

  clear() { this.#turns.clear(); }

  /** An own message, before the session has said anything about it. @returns {Turn} */
  ask(id, question) {
    const turn = this.#turn(id);
    turn.question = question;
    return turn;
  }

  /** The user wants its end, which is not there yet. @param {Turn} turn */
  stop(turn) { turn.stopping = turn.ending === null; }

  /**
   * Fold one frame in.
   * @param {import("./trialogue.js").Frame} frame
   * @returns {Turn|null} the turn that changed; null if the frame changes none
   */
  apply(frame) {
    if (!CHANGES_A_TURN.has(frame.type) || typeof frame.message_id !== "string") return null;
    if (!this.#turns.has(frame.message_id) && !MAKES_A_TURN.has(frame.type)) return null;
    const turn = this.#turn(frame.message_id);
    switch (frame.type) {
      case "user_message":
        turn.accepted = true;
        turn.question = frame.content;
        break;
      case "stream_start":
        // All its tokens follow from index 0 — also when it is sent again, or answered anew after a restart.
        Object.assign(turn, { accepted: true, started: true, stopping: false, text: "", next: 0, phase: "retrieving",
          place: null, sources: [], ending: null, failure: null, totals: null, receipt: null });
        break;
      case "stream_token":
        if (frame.index < turn.next) return null; // sent again
        if (frame.index > turn.next) turn.text += " … "; // we came in the middle: say so
        turn.started = true;
        turn.text += frame.token;
        turn.next = frame.index + 1;
        turn.phase = "generating";
        break;
      case "stream_sources":
        turn.sources = Array.isArray(frame.sources) ? frame.sources : [];
        break;
      case "stream_status":
        return this.#status(turn, frame);
      case "stream_end":
        turn.ending = frame.finish_reason;
        turn.stopping = false;
        turn.totals = { tokens: frame.total_tokens, ms: frame.processing_time_ms };
        break;
      case "stream_error":
        turn.stopping = false;
        turn.ending = turn.accepted ? "failed" : "rejected";
        turn.failure = { code: frame.error_code, message: frame.message, solutions: frame.solutions ?? [] };
        break;
      case "stream_receipt":
        turn.receipt = { generated: frame.generated, sent: frame.sent, acked: frame.acked, upstream: frame.upstream };
        break;
    }
    return turn;
  }

  /**
   * After a hole in the log: unfinished turns that nobody works on any more have ended, we don't know how.
   * @param {Set<string>} alive ids that run, wait, or are being asked for again
   * @returns {Turn[]} the turns that changed
   */
  lose(alive) {
    const lost = this.unfinished.filter((turn) => !alive.has(turn.id));
    for (const turn of lost) turn.ending = "lost";
    return lost;
  }

  #turn(id) {
    let turn = this.#turns.get(id);
    if (turn === undefined) this.#turns.set(id, (turn = newTurn(id)));
    return turn;
  }

  #status(turn, { phase, place, data }) {
    turn.accepted = true;
    if (turn.ending !== null || !PHASES.has(phase)) return null; // "duplicate", "pipeline": nothing to show
    // Tokens have come: an older phase that arrives late must not turn the answer back into waiting.
    if (turn.next === 0 || phase === "generating") turn.phase = phase;
    turn.place = phase === "queued" ? (place ?? data?.place ?? null) : null;
    return turn;
  }
}
