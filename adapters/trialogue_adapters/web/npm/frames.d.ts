// Made from the server's models by `make declarations`: do not edit.

/**
 * What a message does to a session that is busy.
 */
export type Policy = "interrupt" | "enqueue" | "reject" | "rollback";

/**
 * What became of a cancel, after the turn's end; never an error.
 */
export interface CancelResult {
  type: "cancel_result";
  message_id: string | null;
  outcome: "cancelled" | "already_ended" | "unknown";
}
/**
 * The client has shown tokens up to `index`.
 */
export interface ClientAck {
  type: "ack";
  message_id: string;
  index: number;
  session_id?: string | null;
}
/**
 * Renew this connection's credential before it expires.
 */
export interface ClientAuth {
  type: "auth";
  token: string;
  session_id?: string | null;
}
/**
 * Stop that turn, running or queued; without an id, all of this session's.
 */
export interface ClientCancel {
  type: "cancel";
  message_id?: string | null;
  session_id?: string | null;
}
/**
 * Submit a turn. `type` may be absent.
 */
export interface ClientMessage {
  type?: "message";
  message_id: string;
  content: string;
  session_id: string;
  on_busy?: Policy | null;
  options?: {
    [k: string]: unknown;
  } | null;
}
/**
 * Answered by `pong` with the same id.
 */
export interface ClientPing {
  type: "ping";
  id?: string | number | null;
  session_id?: string | null;
}
/**
 * The user is typing, or has stopped; relayed to the session's other connections.
 */
export interface ClientTyping {
  type: "typing";
  active: boolean;
  session_id?: string | null;
}
/**
 * A planned close follows.
 */
export interface Goaway {
  type: "goaway";
  /**
   * `drain`: the server is about to restart. `expired`: the credential has.
   */
  reason: string;
  retry_after_ms: number;
}
/**
 * The answer to a ping, with its id. In every dialect: whoever asks is answered.
 */
export interface Pong {
  type: "pong";
  id: string | number | null;
}
/**
 * How many connections the session has now.
 */
export interface Presence {
  type: "presence";
  connections: number;
}
/**
 * What the server takes.
 */
export interface ServerLimits {
  content_chars: number;
  frame_bytes: number;
  queue: number;
  [k: string]: unknown;
}
/**
 * The first frame. `position` stands just before the first entry that will be sent.
 */
export interface SessionReady {
  type: "session_ready";
  session_id: string;
  position: string;
  resumed: "new" | "attached" | "replayed" | "gap";
  /**
   * The message id of the turn that runs.
   */
  running: string | null;
  queued: string[];
  connections: number;
  limits: ServerLimits;
  heartbeat_s: number;
}
/**
 * One thing that an answer rests on; whatever else the pipeline told of it is there too.
 */
export interface Source {
  title: string;
  /**
   * A number, or whatever the pipeline ranks by; null where it does not rank.
   */
  score: unknown;
  content_preview: string;
  [k: string]: unknown;
}
/**
 * A turn's end; `total_tokens` counts its token events.
 */
export interface StreamEnd {
  type: "stream_end";
  message_id: string;
  total_tokens: number;
  processing_time_ms: number;
  finish_reason: "stop" | "length" | "cancelled" | "interrupted" | "retracted";
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
  /**
   * What the pipeline's `done` told.
   */
  meta?: {
    [k: string]: unknown;
  };
}
/**
 * A turn's failed end, or (without `offset`) a refusal. `solutions` is never empty.
 */
export interface StreamError {
  type: "stream_error";
  message_id: string;
  error_code: string;
  message: string;
  /**
   * @minItems 1
   */
  solutions: [string, ...string[]];
  retry_after_ms?: number;
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
}
/**
 * What became of a turn, in counts of tokens, once it is true; it may come after the next turn has begun.
 */
export interface StreamReceipt {
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
  type: "stream_receipt";
  message_id: string;
  generated: number;
  /**
   * The furthest of all connections.
   */
  sent: number;
  /**
   * The furthest index + 1 that was acknowledged; null if nobody acks.
   */
  acked: number | null;
  /**
   * Characters of the tokens that were sent.
   */
  chars: number;
  /**
   * `abandoned`: it did not close within the server's `stop_grace`.
   */
  upstream: "closed" | "abandoned";
}
/**
 * What the answer rests on.
 */
export interface StreamSources {
  type: "stream_sources";
  message_id: string;
  sources: Source[];
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
}
/**
 * A turn has begun. Told again with the same `timestamp`, it is the same answer from its start.
 */
export interface StreamStart {
  type: "stream_start";
  message_id: string;
  session_id: string;
  timestamp: string;
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
}
/**
 * Where a turn stands. `duplicate` is a reply: the id was known, nothing is generated.
 */
export interface StreamStatus {
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
  type: "stream_status";
  message_id: string;
  phase: "queued" | "waiting" | "retrieving" | "generating" | "pipeline" | "duplicate";
  /**
   * With `queued`: 1 is the next.
   */
  place?: number;
  /**
   * With `pipeline`: the pipeline's own event.
   */
  data?: unknown;
  /**
   * The id that the service has confirmed for this session.
   */
  session_id?: string;
  /**
   * With `waiting`: for a place among all generations, not for the turn before.
   */
  for?: "capacity";
}
/**
 * One token; `index` counts 0, 1, 2… without a hole.
 */
export interface StreamToken {
  type: "stream_token";
  message_id: string;
  token: string;
  index: number;
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
}
/**
 * Another connection's user is typing, or has stopped.
 */
export interface Typing {
  type: "typing";
  active: boolean;
}
/**
 * The accepted message itself: a second device sees the question.
 */
export interface UserMessage {
  /**
   * The position after it: what to resume from. Absent from what is said to one asker.
   */
  offset?: number;
  /**
   * The log's number, told when it changes.
   */
  epoch?: number;
  type: "user_message";
  message_id: string;
  content: string;
  on_busy: Policy;
}

/** What a server sends, by type. */
export interface ServerFrames {
  session_ready: SessionReady;
  user_message: UserMessage;
  stream_start: StreamStart;
  stream_status: StreamStatus;
  stream_sources: StreamSources;
  stream_token: StreamToken;
  stream_end: StreamEnd;
  stream_error: StreamError;
  stream_receipt: StreamReceipt;
  cancel_result: CancelResult;
  presence: Presence;
  typing: Typing;
  pong: Pong;
  goaway: Goaway;
}
export type ServerFrame = ServerFrames[keyof ServerFrames];
/** What a client sends. */
export type ClientFrame = ClientMessage | ClientCancel | ClientAck | ClientTyping | ClientAuth | ClientPing;
