// A SUB on zeromq.js: endpoint, connect|bind, count (0: no end), seconds, then prefixes.
// Each message is a line of JSON on stdout: an array of its frames in base64.
const fs = require("node:fs");
const zmq = require("zeromq");

const [endpoint, way, count, seconds, ...prefixes] = process.argv.slice(2);
setTimeout(() => process.exit(0), Number(seconds) * 1000);

async function main() {
  const socket = new zmq.Subscriber();
  socket.subscribe(...prefixes);
  if (way === "bind") await socket.bind(endpoint);
  else socket.connect(endpoint);
  let left = Number(count) || Infinity;
  for await (const frames of socket) {
    const line = JSON.stringify(frames.map((frame) => frame.toString("base64")));
    fs.writeSync(1, line + "\n");
    if (--left === 0) process.exit(0);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
