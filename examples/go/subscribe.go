// Prints the records of a zafka route with `frames = "json"`, and what is missing among them.
// Usage: subscribe ENDPOINT [PREFIX...]
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	zmq "github.com/pebbe/zmq4"
)

// The fields of the meta frame that are needed here; Prev is nil if the relay does not know it.
type meta struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Prev      *int64 `json:"prev"`
	NullKey   bool   `json:"null_key"`
	NullValue bool   `json:"null_value"`
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: subscribe ENDPOINT [PREFIX...]")
	}
	prefixes := os.Args[2:]
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	socket, err := zmq.NewSocket(zmq.SUB)
	check(err)
	for _, prefix := range prefixes {
		check(socket.SetSubscribe(prefix))
	}
	check(socket.Connect(os.Args[1]))

	// The newest offset of each partition.
	last := map[string]int64{}
	for {
		frames, err := socket.RecvMessageBytes(0)
		check(err)
		if len(frames) != 4 {
			log.Fatalf("%d frames: is the route's `frames` \"json\"?", len(frames))
		}
		var m meta
		check(json.Unmarshal(frames[1], &m))
		partition := fmt.Sprintf("%s/%d", m.Topic, m.Partition)
		if seen, ok := last[partition]; ok {
			missing(partition, seen, m)
		}
		last[partition] = m.Offset
		key, value := text(frames[2], m.NullKey), text(frames[3], m.NullValue)
		fmt.Printf("%s @%d %s %s\n", partition, m.Offset, key, value)
	}
}

func missing(partition string, seen int64, m meta) {
	switch {
	case m.Offset <= seen:
		fmt.Printf("%s back: @%d to @%d\n", partition, seen, m.Offset)
	case m.Prev == nil:
		// The relay has just begun with the partition: it knows of no record before this one.
		if m.Offset > seen+1 {
			fmt.Printf("%s unknown: @%d to @%d\n", partition, seen+1, m.Offset-1)
		}
	case *m.Prev > seen:
		fmt.Printf("%s gap: @%d to @%d\n", partition, seen+1, *m.Prev)
	}
}

func text(frame []byte, isNull bool) string {
	if isNull {
		return "null"
	}
	return string(frame)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
