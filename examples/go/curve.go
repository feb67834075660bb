// A SUB or a DEALER with CURVE at a zafka route.
// Usage: curve sub SERVER.key OURS.key_secret ENDPOINT PREFIX
//
//	curve dealer SERVER.key OURS.key_secret ENDPOINT FRAME...
package main

import (
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"

	zmq "github.com/pebbe/zmq4"
)

func main() {
	if len(os.Args) < 6 {
		log.Fatal("usage: curve sub|dealer SERVER.key OURS.key_secret ENDPOINT WORD...")
	}
	kind, server, ours, endpoint, words := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	socketType := zmq.DEALER
	if kind == "sub" {
		socketType = zmq.SUB
	}
	socket, err := zmq.NewSocket(socketType)
	check(err)
	check(socket.ClientAuthCurve(key(server, "public-key"), key(ours, "public-key"), key(ours, "secret-key")))
	if kind == "sub" {
		check(socket.SetSubscribe(words[0]))
	}
	check(socket.Connect(endpoint))
	if kind == "dealer" {
		_, err := socket.SendMessage(words)
		check(err)
	}
	for {
		frames, err := socket.RecvMessage(0)
		check(err)
		fmt.Println(strings.Join(frames, " "))
		if kind == "dealer" {
			return
		}
	}
}

// key returns a key of a certificate, as `zafka keygen` writes it.
func key(path, name string) string {
	text, err := os.ReadFile(path)
	check(err)
	found := regexp.MustCompile(`(?m)^ +` + name + ` = "(.{40})"$`).FindSubmatch(text)
	if found == nil {
		log.Fatalf("%s: no %s", path, name)
	}
	return string(found[1])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
