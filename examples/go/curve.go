// A SUB or a DEALER with CURVE at a zafka route.
// Usage: curve sub SERVER.key OURS.key_secret ENDPOINT PREFIX
//
//	curve dealer SERVER.key OURS.key_secret ENDPOINT FRAME...
//	curve enrol SERVER.key OURS.key_secret DOOR
//
// enrol shows the token in the file that the variable TOKEN_FILE names at the relay's door, which
// lets in the key: this library cannot show it in the handshake.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"

	zmq "github.com/pebbe/zmq4"
)

func main() {
	if len(os.Args) < 6 && !(len(os.Args) == 5 && os.Args[1] == "enrol") {
		log.Fatal("usage: curve sub|dealer|enrol SERVER.key OURS.key_secret ENDPOINT WORD...")
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
	if kind == "enrol" {
		token, err := os.ReadFile(os.Getenv("TOKEN_FILE"))
		check(err)
		body, err := json.Marshal(map[string]string{"id": "1", "token": strings.TrimSpace(string(token))})
		check(err)
		words = []string{"ZAFKA/1", "ENROL", string(body)}
	}
	if kind != "sub" {
		_, err := socket.SendMessage(words)
		check(err)
	}
	for {
		frames, err := socket.RecvMessage(0)
		check(err)
		fmt.Println(strings.Join(frames, " "))
		if kind != "sub" {
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
