// A SUB on go-zeromq/zmq4, which is Go alone: endpoint, connect|bind, count (0: no end), seconds,
// then prefixes. Each message is a line of JSON on stdout: an array of its frames in base64.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	zmq "github.com/go-zeromq/zmq4"
)

func main() {
	endpoint, way, prefixes := os.Args[1], os.Args[2], os.Args[5:]
	count, _ := strconv.Atoi(os.Args[3])
	seconds, _ := strconv.Atoi(os.Args[4])
	time.AfterFunc(time.Duration(seconds)*time.Second, func() { os.Exit(0) })
	socket := zmq.NewSub(context.Background(), zmq.WithAutomaticReconnect(true))
	if way == "bind" {
		check(socket.Listen(endpoint))
	} else {
		check(socket.Dial(endpoint))
	}
	for _, prefix := range prefixes {
		check(socket.SetOption(zmq.OptionSubscribe, prefix))
	}
	out := json.NewEncoder(os.Stdout)
	for received := 0; count == 0 || received < count; received++ {
		message, err := socket.Recv()
		check(err)
		check(out.Encode(message.Frames))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
