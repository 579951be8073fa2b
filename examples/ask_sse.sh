#!/usr/bin/env bash
# Ask with curl, and print each event when it is whole. When the line breaks, the rest is fetched from where it broke.
#
#     $ bash ask_sse.sh http://127.0.0.1:8000 "What is a session?"
#
# The answer ends with a `done` or an `error` event; docs/sse.md tells of all of them.
set -o pipefail

question=$(printf %s "$2" | sed 's/[\\"]/\\&/g')
body="{\"message\": \"$question\", \"session_id\": \"shell-$$\", \"message_id\": \"question\"}"
events=$(mktemp)
trap 'rm -f "$events"' EXIT

whole() { # an event ends with an empty line; one that was cut comes again
  local line event=
  while IFS= read -r line; do
    event+=$line$'\n'
    [ -n "$line" ] || { printf %s "$event"; event=; }
  done
}

for _ in {1..20}; do
  last=$(sed -n 's/^id: //p' "$events" | tail -n 1)
  curl --silent --no-buffer --fail "$1/chat/stream" --data "$body" --header 'Content-Type: application/json' \
    ${last:+--header "Last-Event-ID: $last"} | whole | tee -a "$events"
  [ $? -ne 22 ] || { echo "refused, with HTTP" >&2; exit 1; }
  grep -qE '^event: (done|error)' "$events" && exit 0
  sleep 0.5
done
exit 1
