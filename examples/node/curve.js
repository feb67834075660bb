// A SUB or a DEALER with CURVE at a zafka route.
// Usage: node curve.js sub SERVER.key OURS.key_secret ENDPOINT PREFIX
//        node curve.js dealer SERVER.key OURS.key_secret ENDPOINT FRAME...
// The token in the file that the variable TOKEN_FILE names, if any, is shown inside CURVE.
const fs = require("node:fs");
const zmq = require("zeromq");

const [kind, server, ours, endpoint, ...words] = process.argv.slice(2);
if (words.length === 0) {
  console.error("usage: node curve.js sub|dealer SERVER.key OURS.key_secret ENDPOINT WORD...");
  process.exit(2);
}

// A key of a certificate, as `zafka keygen` writes it.
function key(path, name) {
  const found = new RegExp(`^ +${name} = "(.{40})"$`, "m").exec(fs.readFileSync(path, "utf8"));
  if (found === null) throw new Error(`${path}: no ${name}`);
  return found[1];
}

async function main() {
  const socket = kind === "sub" ? new zmq.Subscriber() : new zmq.Dealer();
  socket.curveServerKey = key(server, "public-key");
  socket.curvePublicKey = key(ours, "public-key");
  socket.curveSecretKey = key(ours, "secret-key");
  if (process.env.TOKEN_FILE) {
    const token = fs.readFileSync(process.env.TOKEN_FILE, "utf8").trim();
    // ZMQ_METADATA. Set once: a new token needs a new socket. TypeScript calls the method protected.
    socket.setStringOption(95, `X-Token:${token}`);
  }
  if (kind === "sub") socket.subscribe(words[0]);
  socket.connect(endpoint);
  if (kind === "dealer") await socket.send(words);
  for await (const frames of socket) {
    console.log(frames.map(String).join(" "));
    if (kind === "dealer") process.exit(0);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
