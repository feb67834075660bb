// A sender on zeromq.js: endpoint, connect|bind, seconds, socket type, topic, count, window, value
// size; what it sends and prints is as in ../python/send.py.
const fs = require("node:fs");
const zmq = require("zeromq");

const [endpoint, way, seconds, kind, topic, ...numbers] = process.argv.slice(2);
const [count, window, size] = numbers.map(Number);
const answered = kind === "dealer" || kind === "req";
const types = { push: zmq.Push, pub: zmq.Publisher, dealer: zmq.Dealer, req: zmq.Request };
const late = setTimeout(() => {
  console.error("too late");
  process.exit(1);
}, Number(seconds) * 1000);

function message(number) {
  const value = String(number).padStart(20, "0").padEnd(size, ".");
  const frames = [topic, `k${number % 5}`, value];
  return answered ? [String(number), ...frames] : frames;
}

function print(frames) {
  fs.writeSync(1, JSON.stringify(frames.map((frame) => frame.toString("base64"))) + "\n");
}

async function main() {
  const socket = new types[kind]({ linger: Number(seconds) * 1000 });
  if (way === "bind") await socket.bind(endpoint);
  else socket.connect(endpoint);
  let received = 0;
  for (let sent = 0; sent < count; sent++) {
    await socket.send(message(sent));
    if (kind === "pub") await new Promise((done) => setTimeout(done, 1));
    while (answered && sent + 1 - received >= (kind === "req" ? 1 : window)) {
      print(await socket.receive());
      received++;
    }
  }
  for (; answered && received < count; received++) print(await socket.receive());
  socket.close();
}

main().then(
  // The process ends once libzmq has sent what it still holds.
  () => clearTimeout(late),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
