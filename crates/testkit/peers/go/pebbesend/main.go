// A sender on pebbe/zmq4, which is libzmq: endpoint, connect|bind, seconds, socket type, topic,
// count, window, value size; what it sends and prints is as in ../../python/send.py.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	zmq "github.com/pebbe/zmq4"
)

func main() {
	endpoint, way, kind, topic := os.Args[1], os.Args[2], os.Args[4], os.Args[5]
	seconds, count, window, size := number(3), number(6), number(7), number(8)
	time.AfterFunc(time.Duration(seconds)*time.Second, func() { log.Fatal("too late") })
	types := map[string]zmq.Type{"push": zmq.PUSH, "pub": zmq.PUB, "dealer": zmq.DEALER, "req": zmq.REQ}
	answered := kind == "dealer" || kind == "req"
	if kind == "req" {
		window = 1
	}
	socket, err := zmq.NewSocket(types[kind])
	check(err)
	check(socket.SetLinger(-1))
	if way == "bind" {
		check(socket.Bind(endpoint))
	} else {
		check(socket.Connect(endpoint))
	}
	out := json.NewEncoder(os.Stdout)
	sent, received := 0, 0
	for sent < count || (answered && received < count) {
		if sent < count && (!answered || sent-received < window) {
			value := fmt.Sprintf("%020d", sent)
			value += strings.Repeat(".", max(0, size-len(value)))
			frames := []string{topic, fmt.Sprintf("k%d", sent%5), value}
			if answered {
				frames = append([]string{strconv.Itoa(sent)}, frames...)
			}
			_, err := socket.SendMessage(frames)
			check(err)
			sent++
			continue
		}
		frames, err := socket.RecvMessageBytes(0)
		check(err)
		check(out.Encode(frames))
		received++
	}
	check(socket.Close())
	check(zmq.Term())
}

func number(index int) int {
	value, err := strconv.Atoi(os.Args[index])
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
