/**
 * Every word of the page, in Korean and English. Server texts come in the connection's language and are not here.
 *
 * Elements carry `data-i18n="key"` (text) or `data-i18n-label="key"` (accessible name and tooltip); code calls `t(key)`.
 */

/** @typedef {"ko"|"en"} Lang */

const TEXTS = {
  ko: {
    "new": "새 대화", "lang": "Switch to English", "lang.short": "EN", "tools": "설정", "close": "닫기", "dismiss": "알림 닫기",
    "theme.auto": "테마: 시스템 설정", "theme.light": "테마: 밝게", "theme.dark": "테마: 어둡게",
    "messages": "대화", "composer": "메시지 작성", "input": "메시지", "send": "보내기", "stop": "답변 중지 (Esc)",
    "enqueue": "답변이 끝나면 보내기 (Ctrl+Enter)",
    "placeholder": "무엇이든 물어보세요", "placeholder.busy": "지금 입력하면 답변을 끊고 바로 답합니다",
    "hint": "Enter로 보내기 · Shift+Enter로 줄 바꿈", "hint.busy": "Esc로 중지 · Enter로 끼어들기 · Ctrl+Enter로 대기열에 넣기",
    "latest": "최신 메시지로",
    "help": "단축키", "help.enter": "보내기. 답변 중이면 끼어들기", "help.shift": "줄 바꿈", "help.queue": "지금 답변이 끝난 뒤에 보내기",
    "help.esc": "답변 중지, 수정 취소", "help.up": "빈 입력창에서: 마지막 메시지 수정", "help.new": "새 대화",
    "help.slash": "입력창으로 이동", "help.help": "이 도움말",
    "welcome.title": "무엇을 도와드릴까요?",
    "welcome.text": "답변이 나오는 동안에도 새 질문을 보내면 바로 그 질문에 답합니다.",
    "welcome.talk": "끼어들기", "welcome.talk.text": "답변이 끝나기를 기다릴 필요가 없습니다.",
    "welcome.back": "이어 받기", "welcome.back.text": "연결이 끊겨도 빠진 글자 없이 이어집니다.",
    "welcome.tabs": "함께 보기", "welcome.tabs.text": "다른 탭에서도 같은 대화가 보입니다.",
    "queue.title": "다음 차례",
    "you": "나", "answer": "답변", "loading": "답변을 준비하고 있습니다",
    "edit": "수정해서 다시 보내기", "editing": "메시지를 수정하는 중", "editing.leave": "수정 취소 (Esc)", "withdraw": "대기열에서 빼기",
    "copy": "답변 복사", "copy.code": "코드 복사", "copied": "복사했습니다", "copy.failed": "복사하지 못했습니다",
    "regenerate": "다시 답변 받기",
    "question.unknown": "(질문을 불러올 수 없습니다)",
    "state.idle": "연결 안 됨", "state.connecting": "연결 중…", "state.ready": "연결됨",
    "state.waiting": "연결 끊김 — 다시 연결하는 중…", "state.stopped": "연결이 종료됨",
    "state.leaving": "서버가 곧 다시 시작됩니다",
    "key.label": "이 서버는 키가 있어야 쓸 수 있습니다. 키는 이 탭을 닫으면 잊습니다.",
    "key.wrong": "이 키로는 들어갈 수 없습니다", "key.use": "키 사용",
    "reconnect": "다시 연결", "presence": "{n}곳에서 접속 중",
    "presence.typing": "다른 곳에서 입력 중…",
    "phase.sending": "보내는 중", "phase.offline": "연결되면 보냅니다", "phase.queued": "대기 중",
    "phase.queued.place": "대기 중 · {n}번째", "phase.waiting": "이전 답변을 정리하는 중", "phase.retrieving": "자료를 찾는 중",
    "phase.generating": "답변 작성 중", "phase.stopping": "중지하는 중",
    "end.length": "길이 제한으로 답변이 잘렸습니다", "end.cancelled": "중지됨", "end.interrupted": "새 메시지로 중단됨",
    "end.stop": "끝남", "end.unstarted": "답변이 시작되기 전에 취소됨",
    "end.retracted": "수정한 메시지로 대체됨", "end.failed": "오류", "end.rejected": "보내지 못함",
    "end.lost": "연결이 끊긴 동안 끝난 답변입니다",
    "again": "다시 묻기", "sources": "출처 {n}개", "source.untitled": "제목 없음", "score": "관련도 {n}",
    "source.empty": "미리 볼 내용이 없습니다",
    "receipt.all": "생성된 토큰 {seen}개를 모두 보았습니다", "receipt.part": "생성된 토큰 {generated}개 중 {seen}개를 보았습니다",
    "upstream.closed": "생성이 멈췄습니다", "upstream.abandoned": "생성이 제때 멈추지 않아 버려졌습니다",
    "totals": "토큰 {tokens}개 · {seconds}초",
    "gap": "이전 메시지는 서버에 더 이상 남아 있지 않습니다",
    "back.tokens": "{seconds}초 만에 다시 연결됨 · 놓친 토큰 {n}개를 빠짐없이 받았습니다",
    "back.entries": "{seconds}초 만에 다시 연결됨 · 놓친 일 {n}개를 빠짐없이 받았습니다",
    "back.nothing": "{seconds}초 만에 다시 연결됨 · 놓친 것이 없습니다",
    "restored": "대화를 불러왔습니다 · 메시지 {n}개",
    "too.long": "메시지는 {n}자까지 보낼 수 있습니다", "too.many": "아직 답을 받지 못한 메시지가 너무 많습니다",
    "say.started": "답변이 시작되었습니다", "say.done": "답변: {text}",
  },
  en: {
    "new": "New chat", "lang": "한국어로 바꾸기", "lang.short": "한", "tools": "Settings", "close": "Close", "dismiss": "Dismiss",
    "theme.auto": "Theme: as the system", "theme.light": "Theme: light", "theme.dark": "Theme: dark",
    "messages": "Conversation", "composer": "Write a message", "input": "Message", "send": "Send", "stop": "Stop answering (Esc)",
    "enqueue": "Send after this answer (Ctrl+Enter)",
    "placeholder": "Ask anything", "placeholder.busy": "Type to interrupt",
    "hint": "Enter to send · Shift+Enter for a new line", "hint.busy": "Esc stops · Enter interrupts · Ctrl+Enter queues",
    "latest": "To the newest message",
    "help": "Keyboard shortcuts", "help.enter": "Send; while it answers: interrupt", "help.shift": "New line",
    "help.queue": "Send after the current answer",
    "help.esc": "Stop the answer, leave editing", "help.up": "In the empty input: edit the last message", "help.new": "New chat",
    "help.slash": "Go to the input", "help.help": "This help",
    "welcome.title": "How can I help?",
    "welcome.text": "Send a new question while an answer is streaming, and it is answered at once.",
    "welcome.talk": "Talk over it", "welcome.talk.text": "No need to wait until an answer has ended.",
    "welcome.back": "Come back", "welcome.back.text": "A lost connection goes on without a missing word.",
    "welcome.tabs": "Watch along", "welcome.tabs.text": "A second tab shows the same conversation.",
    "queue.title": "Up next",
    "you": "You", "answer": "Answer", "loading": "An answer is being prepared",
    "edit": "Edit and send again", "editing": "Editing a message", "editing.leave": "Leave editing (Esc)",
    "withdraw": "Take out of the queue",
    "copy": "Copy the answer", "copy.code": "Copy the code", "copied": "Copied", "copy.failed": "Could not be copied",
    "regenerate": "Answer again",
    "question.unknown": "(the question is not available)",
    "state.idle": "Not connected", "state.connecting": "Connecting…", "state.ready": "Connected",
    "state.waiting": "Offline — reconnecting…", "state.stopped": "Connection closed",
    "state.leaving": "The server is about to restart",
    "key.label": "This server wants a key. It is forgotten when you close this tab.",
    "key.wrong": "This key is not accepted", "key.use": "Use key",
    "reconnect": "Reconnect", "presence": "Open in {n} places", "presence.typing": "Somebody is typing…",
    "phase.sending": "Sending", "phase.offline": "Will be sent when back online", "phase.queued": "Queued",
    "phase.queued.place": "Queued · number {n}", "phase.waiting": "Closing the previous answer",
    "phase.retrieving": "Looking things up", "phase.generating": "Answering", "phase.stopping": "Stopping",
    "end.length": "Cut off at the size limit", "end.cancelled": "Stopped", "end.interrupted": "Interrupted by a newer message",
    "end.stop": "Ended", "end.unstarted": "Cancelled before its answer began",
    "end.retracted": "Replaced by the edited message", "end.failed": "Error", "end.rejected": "Not sent",
    "end.lost": "Ended while the connection was down",
    "again": "Ask again", "sources": "Sources ({n})", "source.untitled": "Untitled", "score": "relevance {n}",
    "source.empty": "There is no preview",
    "receipt.all": "You saw all {seen} tokens that were generated", "receipt.part": "You saw {seen} of {generated} generated tokens",
    "upstream.closed": "its source has stopped", "upstream.abandoned": "its source did not stop in time and was given up",
    "totals": "{tokens} tokens · {seconds} s",
    "gap": "Earlier messages are no longer kept on the server",
    "back.tokens": "Back after {seconds} s · {n} missed tokens replayed, none lost",
    "back.entries": "Back after {seconds} s · {n} missed events replayed, none lost",
    "back.nothing": "Back after {seconds} s · nothing was missed",
    "restored": "Conversation replayed from the server · messages: {n}",
    "too.long": "A message can have up to {n} characters", "too.many": "Too many messages are still unanswered",
    "say.started": "The answer has started", "say.done": "Answer: {text}",
  },
};

/** @type {Lang} */
let current = "ko";

/** @param {string|undefined} tag a BCP 47 tag, such as `navigator.language` @returns {Lang} */
export const pickLang = (tag) => (/^ko\b/i.test(tag ?? "") ? "ko" : "en");

/** @param {string} key @param {Record<string, string|number>} [values] @returns {string} */
export function t(key, values = {}) {
  const text = TEXTS[current][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** Switch the language and re-word everything marked under `root`. @param {Lang} lang @param {ParentNode} root */
export function setLang(lang, root = document) {
  current = lang;
  document.documentElement.lang = lang;
  for (const el of root.querySelectorAll("[data-i18n]")) el.textContent = t(el.dataset.i18n);
  for (const el of root.querySelectorAll("[data-i18n-label]")) {
    el.setAttribute("aria-label", t(el.dataset.i18nLabel));
    if (el instanceof HTMLButtonElement) el.title = t(el.dataset.i18nLabel);
  }
  for (const el of root.querySelectorAll("[data-i18n-placeholder]")) el.placeholder = t(el.dataset.i18nPlaceholder);
}

/** For a test: both languages have the same keys. */
export const keysOf = (lang) => Object.keys(TEXTS[lang]).sort();
