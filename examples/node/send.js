// Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.
// Usage: send.js ENDPOINT TOPIC [KEY]
//
// The route is a `router` with `frames = ["{id}", "{topic}", "{key}", "{value}"]`.
const readline = require("node:readline");
const zmq = require("zeromq");

// Lines that have no answer yet, at the most.
const WINDOW = 1000;
// After so many ms without an answer all of them are sent again: libzmq connects again by itself,
// and tells nobody what was lost. Some may then be in the log twice.
const SILENCE = 10_000;

async function main([endpoint, topic, key = ""]) {
  const socket = new zmq.Dealer({ receiveTimeout: SILENCE });
  socket.connect(endpoint);
  // By id, in their order.
  const unanswered = new Map();
  const send = (id) => socket.send([id, topic, key, unanswered.get(id)]);

  async function receive() {
    let frames;
    try {
      frames = await socket.receive();
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      for (const id of unanswered.keys()) await send(id);
      return;
    }
    const [id, word, body] = frames.map(String);
    const value = unanswered.get(id);
    // The second answer to what was sent twice.
    if (!unanswered.delete(id)) return;
    if (word === "OK") {
      const { topic, partition, offset } = JSON.parse(body);
      console.log(`${topic}/${partition} @${offset} ${value}`);
    } else {
      process.exitCode = 1;
      console.log(`refused ${value}: ${body}`);
    }
  }

  let number = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    while (unanswered.size >= WINDOW) await receive();
    const id = String(number++);
    unanswered.set(id, line);
    await send(id);
  }
  while (unanswered.size > 0) await receive();
  socket.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
