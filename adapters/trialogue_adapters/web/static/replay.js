/**
 * What a connection that has come back is sent of the past, counted.
 *
 * The end of a replay is not marked on the wire, but a reply follows every entry that is in the log when it is made. So a
 * question of no consequence is asked: the cancel of a turn that nobody has; and its answer is the mark. It must only count.
 */
import { randomId } from "./trialogue.js";

/** @typedef {{entries: number, tokens: number, messages: number, awayMs: number, reload: boolean}} Replayed */

export class Replay {
  #mark = "";
  #lostAt = NaN;
  /** @type {Replayed} */ #count;

  /** The connection is gone since now. */
  lost() { if (Number.isNaN(this.#lostAt)) this.#lostAt = performance.now(); }

  /**
   * It is there again, and the replay begins.
   * @param {(mark: string) => void} ask asks for the cancel of that turn
   */
  begin(ask) {
    const reload = Number.isNaN(this.#lostAt);
    this.#count = { entries: 0, tokens: 0, messages: 0, awayMs: reload ? 0 : performance.now() - this.#lostAt, reload };
    this.#lostAt = NaN;
    this.#mark = randomId();
    ask(this.#mark);
  }

  /** @param {import("./trialogue.js").Frame} frame @returns {Replayed|null} what was replayed, once all of it is here */
  feed({ type, message_id, offset }) {
    if (this.#mark === "") return null;
    if (type === "cancel_result" && message_id === this.#mark) {
      this.#mark = "";
      return this.#count;
    }
    if (offset === undefined) return null;
    this.#count.entries += 1;
    if (type === "stream_token") this.#count.tokens += 1;
    if (type === "user_message") this.#count.messages += 1;
    return null;
  }
}
