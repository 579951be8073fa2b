// Made from the server's models by `make declarations`: do not edit.
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
export type ServerFrames = import("./frames.js").ServerFrames;
export type ServerFrame = import("./frames.js").ServerFrame;
export type ClientFrame = import("./frames.js").ClientFrame;
export type ClientMessage = import("./frames.js").ClientMessage;
export type SessionReady = import("./frames.js").SessionReady;
export type StreamReceipt = import("./frames.js").StreamReceipt;
export type Source = import("./frames.js").Source;
export type Policy = import("./frames.js").Policy;
export declare const SUBPROTOCOL = "trialogue.v1";
/** Messages without an ending that we keep for re-sending. When it is full, `send` and `ask` throw. */
export declare const MAX_UNFINISHED = 32;
/** Turns that are followed at once, ended ones that may still get a receipt among them; past it the oldest is let go. */
export declare const MAX_TURNS = 64;
/** Characters and tokens together that a turn keeps; a longer answer is cancelled and ends as "failed", "too_long". */
export declare const MAX_ANSWER: number;
export type State = "idle" | "connecting" | "ready" | "waiting" | "stopped";
export type StateChange = {
    state: State;
    code: number;
    reason: string;
    attempt: number;
    retryMs: number;
};
export type How = {
    onBusy?: Policy;
    options?: {
        [key: string]: unknown;
    };
};
export type Unfinished = {
    frame: ClientMessage;
    transmitted: boolean;
    accepted: boolean;
};
export type Socket = {
    protocol: string;
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send: (text: string) => void;
    close: (code?: number) => void;
};
export type Options = {
    /**
     * a stored position to go on from
     */
    after?: string | null;
    /**
     * fetches a `ws_token`, see `Credential`
     */
    mint?: () => Promise<Minted | null | false>;
    /**
     * for a node without one: the `ws` package's
     */
    WebSocket?: new (url: string, protocols: string[]) => Socket;
};
export type Whole = {
    session_ready: SessionReady & {
        whole: boolean;
    };
};
export type Own = {
    state: StateChange;
    turn: Turn;
    "*": ServerFrame & {
        local?: true;
    };
};
export type Events = ServerFrames & Whole & Own;
/** A random id, also where `crypto.randomUUID` is missing (plain http on another host is no secure context). */
export declare function randomId(): string;
/**
 * Connect, under a new session id if the address has none.
 * @param {string} url of `/chat-ws` @param {Options} [options]
 */
export declare function connect(url: string, options?: Options): Trialogue;
/**
 * Why a turn has no answer. `code` is the server's (`WS-003`, `RAG-001`, a pipeline's own), or one of ours: `closed`
 * (the connection has ended for good), `lost` (the server no longer knows how it ended), `too_long`, `anew` (only from
 * an iterator: what it has given is no longer part of the answer, which has begun again).
 */
export declare class TrialogueError extends Error {
    code: string;
    /** What a person can do about it. */
    solutions: string[];
    /** When it is worth trying again, if the server said so. */
    retryAfterMs: number | null;
    /** Is it worth sending the same content again, as a new message? */
    retryable: boolean;
    /**
     * @param {string} code @param {string} message
     * @param {{solutions?: string[], retryAfterMs?: number|null, retryable?: boolean}} [more]
     */
    constructor(code: string, message: string, { solutions, retryAfterMs, retryable }?: {
        solutions?: string[];
        retryAfterMs?: number | null;
        retryable?: boolean;
    });
}
export type Phase = "sending" | "queued" | "waiting" | "retrieving" | "generating" | "ended";
export type Ending = "stop" | "length" | "cancelled" | "interrupted" | "retracted" | "failed" | "rejected" | "lost";
export type Ended = {
    ending: Ending;
    /**
     * all that came
     */
    text: string;
    /**
     * how many
     */
    tokens: number;
    /**
     * is nothing of what the server sent missing in `text`?
     */
    whole: boolean;
    /**
     * the server's time for it
     */
    ms: number | null;
    /**
     * what the pipeline told at its end
     */
    meta: {
        [key: string]: unknown;
    } | null;
    /**
     * for "failed", "rejected" and "lost"
     */
    error: TrialogueError | null;
};
export type Seen = {
    /**
     * "cancelled", unless it had ended before
     */
    ending: Ending;
    text: string;
    tokens: number;
    receipt: Promise<StreamReceipt | null>;
};
export type Wire = {
    cancel: (id: string) => void;
    ack: (id: string, index: number) => void;
};
/** A question and its answer, as it comes: iterate it for the tokens, or look at it whenever you like. */
export declare class Turn {
    #private;
    /** The message id. @readonly */ readonly id: string;
    /** Was it asked through this client? Else another device did. @readonly */ readonly mine: boolean;
    /** How it ended; never rejects. @readonly @type {Promise<Ended>} */ readonly ended: Promise<Ended>;
    /** How much was generated, sent and seen; null when nobody will tell. @readonly @type {Promise<StreamReceipt|null>} */ readonly receipt: Promise<StreamReceipt | null>;
    /** @private @param {string} id @param {string|null} question @param {boolean} mine @param {Wire} wire */
    private constructor();
    /** What was asked; null if we came too late to hear it. */
    get question(): string | null;
    /** The answer so far. */
    get text(): string;
    /** How many tokens of it have come. */
    get tokens(): number;
    get phase(): Phase;
    /** While it is queued: 1 is the next. */
    get place(): number | null;
    /** What it rests on, once the pipeline has told. */
    get sources(): import("./frames.js").Source[];
    /** Null while it goes on. */
    get ending(): Ending | null;
    /**
     * Stop it. Resolves when it has ended, with what had come until then; on a turn that has ended, at once.
     * @returns {Promise<Seen>}
     */
    cancel(): Promise<Seen>;
    /**
     * Its tokens, from the first, whenever you begin. A token counts as seen (and is acknowledged) when the next is asked
     * for. Ends when the turn does; throws its error if that is "failed", "rejected" or "lost".
     * @returns {AsyncGenerator<string, void, undefined>}
     */
    [Symbol.asyncIterator](): AsyncGenerator<string, void, undefined>;
}
export declare class Trialogue {
    #private;
    /**
     * @param {string} url absolute, with `session_id` in its query and without `after`
     * @param {Options} [options]
     */
    constructor(url: string, { after, mint, WebSocket }?: Options);
    get state(): State;
    get sessionId(): string;
    /** Ids of own messages that have no ending yet. */
    get unfinished(): string[];
    /** `epoch:offset` of what has come; store it, and go on from there with `after`. */
    get position(): string | null;
    /**
     * Listen to a frame type, to `state` (a StateChange), to `turn` (a Turn that another device has asked; also what is
     * still in the log when we come), or to `*` (every frame).
     * @template {keyof Events} Type
     * @param {Type} type @param {(detail: Events[Type]) => void} listener
     * @returns {() => void} takes the listener away again
     */
    on<Type extends keyof Events>(type: Type, listener: (detail: Events[Type]) => void): () => void;
    /** Connect; does nothing on a client that is connected or on its way. */
    open(): void;
    /** Leave for good: if nobody else is attached, the running turn is stopped. */
    close(): void;
    /** Come back at once instead of after the back-off (the network is there again, the user asks). */
    retryNow(): void;
    /** Go on over another URL of the same session (another language, a fresh token); nothing is lost or stopped. */
    reconnect(url?: string): void;
    /**
     * Ask something. While away it is kept and sent after the return.
     * @param {string} content @param {How} [how]
     * @returns {Turn} the answer, as it comes
     */
    ask(content: string, how?: How): Turn;
    /**
     * Submit a turn without holding its answer: for those who listen to the frames.
     * @param {string} content @param {How} [how]
     * @returns {string} its message id
     */
    send(content: string, { onBusy, options }?: How): string;
    /** Stop that turn, running or queued; without an id, all of this session's. @param {string} [id] */
    cancel(id?: string): void;
    /**
     * The tokens of this turn up to `index` have been shown. Joined: at most two frames a second. Whoever iterates a Turn
     * need not call it. @param {string} id @param {number} index
     */
    ack(id: string, index: number): void;
    /** @param {boolean} active */
    typing(active: boolean): void;
    /** Renew this connection's credential. @param {string} token */
    auth(token: string): void;
}
export type Minted = {
    ws_token: string;
    expires_in: number;
};
