/**
 * A client's credential: fetched before each connect, and again in time before it expires.
 *
 * It knows neither sockets nor keys: `mint` fetches, and whoever asked is told of each newer token. The newest `take`
 * counts; what an older one still brings is dropped.
 */

const RENEW_AT = 0.8; // of its life: time enough to try, and not so often that anybody notices
const MIN_DELAY_MS = 1000; // a token that is as good as dead is no reason to ask without pause
const MAX_DELAY_MS = 2 ** 31 - 1; // of a browser's timer

/** @typedef {{ws_token: string, expires_in: number}} Minted */

export class Credential {
  #mint;
  #timer;
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
    let minted;
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

  #renewLater(seconds, renewed) {
    const renew = () => this.take(renewed).then((taken) => { if (taken?.token) renewed(taken.token); }, () => {});
    this.#timer = setTimeout(renew, Math.min(Math.max(seconds * 1000 * RENEW_AT, MIN_DELAY_MS), MAX_DELAY_MS));
  }
}
