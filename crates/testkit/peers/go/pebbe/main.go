// A SUB on pebbe/zmq4, which is libzmq: endpoint, connect|bind, count (0: no end), seconds, then
// prefixes. Each message is a line of JSON on stdout: an array of its frames in base64.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	zmq "github.com/pebbe/zmq4"
)

func main() {
	endpoint, way, prefixes := os.Args[1], os.Args[2], os.Args[5:]
	count, _ := strconv.Atoi(os.Args[3])
	seconds, _ := strconv.Atoi(os.Args[4])
	time.AfterFunc(time.Duration(seconds)*time.Second, func() { os.Exit(0) })
	socket, err := zmq.NewSocket(zmq.SUB)
	check(err)
	for _, prefix := range prefixes {
		check(socket.SetSubscribe(prefix))
	}
	if way == "bind" {
		check(socket.Bind(endpoint))
	} else {
		check(socket.Connect(endpoint))
	}
	out := json.NewEncoder(os.Stdout)
	for received := 0; count == 0 || received < count; received++ {
		frames, err := socket.RecvMessageBytes(0)
		check(err)
		check(out.Encode(frames))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
