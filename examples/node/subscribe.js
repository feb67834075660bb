// Prints the records of a zafka route with `frames = "json"`, and what is missing among them.
// Usage: subscribe.js ENDPOINT [PREFIX...]
//
// JSON.parse rounds numbers beyond 2^53, which no partition's offsets reach.
const zmq = require("zeromq");

const text = (frame, isNull) => (isNull ? "null" : frame.toString());

async function main([endpoint, ...prefixes]) {
  const socket = new zmq.Subscriber();
  socket.subscribe(...prefixes);
  socket.connect(endpoint);

  // The newest offset of each partition.
  const last = new Map();
  for await (const [, metaFrame, key, value] of socket) {
    const meta = JSON.parse(metaFrame);
    const { offset, prev } = meta;
    const partition = `${meta.topic}/${meta.partition}`;
    const seen = last.get(partition);
    if (seen === undefined) {
      // The first record of this partition.
    } else if (offset <= seen) {
      console.log(`${partition} back: @${seen} to @${offset}`);
    } else if (prev === undefined) {
      // The relay has just begun with the partition: it knows of no record before this one.
      if (offset > seen + 1) {
        console.log(`${partition} unknown: @${seen + 1} to @${offset - 1}`);
      }
    } else if (prev > seen) {
      console.log(`${partition} gap: @${seen + 1} to @${prev}`);
    }
    last.set(partition, offset);
    const shown = `${text(key, meta.null_key)} ${text(value, meta.null_value)}`;
    console.log(`${partition} @${offset} ${shown}`);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
