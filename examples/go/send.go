// Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.
// Usage: send ENDPOINT TOPIC [KEY]
//
// The route is a `router` with `frames = ["{id}", "{topic}", "{key}", "{value}"]`.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"
)

// Lines that have no answer yet, at the most.
const window = 1000

// After so long without an answer all of them are sent again: libzmq connects again by itself, and
// tells nobody what was lost. Some may then be in the log twice.
const silence = 10 * time.Second

type place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// A number, or null if the cluster did not tell it.
	Offset json.RawMessage `json:"offset"`
}

type sender struct {
	socket     *zmq.Socket
	topic, key string
	// By number; those before `oldest` are all answered.
	unanswered   map[int]string
	oldest, next int
	refused      bool
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: send ENDPOINT TOPIC [KEY]")
	}
	socket, err := zmq.NewSocket(zmq.DEALER)
	check(err)
	check(socket.SetRcvtimeo(silence))
	check(socket.Connect(os.Args[1]))
	s := sender{socket: socket, topic: os.Args[2], unanswered: map[int]string{}}
	if len(os.Args) > 3 {
		s.key = os.Args[3]
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		for len(s.unanswered) >= window {
			s.receive(0)
		}
		s.unanswered[s.next] = lines.Text()
		s.send(s.next)
		s.next++
		for s.receive(zmq.DONTWAIT) {
		}
	}
	check(lines.Err())
	for len(s.unanswered) > 0 {
		s.receive(0)
	}
	if s.refused {
		os.Exit(1)
	}
}

func (s *sender) send(number int) {
	_, err := s.socket.SendMessage(strconv.Itoa(number), s.topic, s.key, s.unanswered[number])
	check(err)
}

// Takes an answer; false if there is none.
func (s *sender) receive(flags zmq.Flag) bool {
	frames, err := s.socket.RecvMessageBytes(flags)
	if zmq.AsErrno(err) == zmq.Errno(syscall.EAGAIN) {
		if flags == 0 {
			s.sendAgain()
		}
		return false
	}
	check(err)
	if len(frames) != 3 {
		log.Fatalf("an answer of %d frames: do the route's `frames` begin with {id}?", len(frames))
	}
	number, err := strconv.Atoi(string(frames[0]))
	check(err)
	value, ok := s.unanswered[number]
	if !ok {
		return true // The second answer to what was sent twice.
	}
	delete(s.unanswered, number)
	if string(frames[1]) == "OK" {
		var at place
		check(json.Unmarshal(frames[2], &at))
		fmt.Printf("%s/%d @%s %s\n", at.Topic, at.Partition, at.Offset, value)
	} else {
		s.refused = true
		fmt.Printf("refused %s: %s\n", value, frames[2])
	}
	return true
}

func (s *sender) sendAgain() {
	for number := s.oldest; number < s.next; number++ {
		if _, ok := s.unanswered[number]; ok {
			s.send(number)
		} else if number == s.oldest {
			s.oldest++
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
