// Run in a project that has installed the package: `node installed.mjs PATH_OF_WS URL` prints an answer.

import { connect } from "trialogue";

const { WebSocket } = await import(process.argv[2]);
const chat = connect(process.argv[3], { WebSocket });
const turn = chat.ask("hello");
for await (const token of turn) process.stdout.write(token);
const { ending } = await turn.ended;
process.stdout.write(`| ${ending}\n`);
chat.close();
