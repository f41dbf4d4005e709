package agent

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// doorStreams is how many streams one door carries at once.
const doorStreams = 2048

// ServeDoor is the life of a host's end of a [Door]: it greets, asks for the key
// where o has one, and serves what is knocked for until conn or ctx ends, or
// until nobody wanted an agent for a while: one more lease after a controller
// fell silent, else two minutes. It returns when every agent that it served has
// healed.
func ServeDoor(ctx context.Context, conn io.ReadWriteCloser, o ServeOptions) error {
	defer conn.Close()
	if err := greetController(conn, o.Key); err != nil {
		return fmt.Errorf("agent: a door was not opened: %w", err)
	}
	session, err := yamux.Server(conn, doorSettings())
	if err != nil {
		return fmt.Errorf("agent: serving a door: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	if o.Sole == nil {
		o.Sole = &sync.Mutex{}
	}
	s := &doorServer{o: o, room: make(chan struct{}, doorStreams)}
	s.o.Key = "" // the door has asked for it
	s.o.vacancy = newVacancy(func() { session.Close() })
	defer s.o.vacancy.taken()
	defer s.work.Wait()
	defer session.Close()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return s.o.vacancy.err() // nil: the other end has left
		}
		select {
		case s.room <- struct{}{}:
			s.work.Add(1)
			go s.serve(ctx, stream)
		default:
			stream.Close()
		}
	}
}

// greetController is the host's part of a greeting.
func greetController(conn io.ReadWriteCloser, key string) error {
	t := time.AfterFunc(doorWait, func() { conn.Close() })
	defer t.Stop()
	if key == "" {
		_, err := fmt.Fprintf(conn, "%s %d -\n", doorGreeting, doorVersion)
		return err
	}
	ours := newNonce()
	if _, err := fmt.Fprintf(conn, "%s %d %s\n", doorGreeting, doorVersion, ours); err != nil {
		return err
	}
	line, err := readShort(conn)
	if err != nil {
		return err
	}
	theirs, proof, _ := strings.Cut(line, " ")
	if !hmac.Equal([]byte(proof), []byte(doorProof(key, "controller", ours, theirs))) {
		return errors.New("the key is wrong")
	}
	_, err = io.WriteString(conn, doorProof(key, "host", ours, theirs)+"\n")
	return err
}

type doorServer struct {
	o    ServeOptions
	room chan struct{}
	work sync.WaitGroup
}

// serve is one stream's life.
func (s *doorServer) serve(ctx context.Context, stream net.Conn) {
	defer s.work.Done()
	defer func() { <-s.room }()
	defer stream.Close()
	var k knock
	stream.SetDeadline(time.Now().Add(doorWait))
	line, err := readShort(stream)
	if err == nil {
		err = json.Unmarshal([]byte(line), &k)
	}
	if err == nil {
		err = s.admit(ctx, stream, k)
	}
	if err != nil {
		s.log(fmt.Sprintf("a %s through the door: %v", k.Kind, err))
	}
}

func (s *doorServer) admit(ctx context.Context, stream net.Conn, k knock) error {
	switch k.Kind {
	case knockAgent:
		if err := sayTo(stream, nil); err != nil {
			return err
		}
		return Serve(ctx, stream, s.o)
	case knockDial:
		return s.dial(ctx, stream, k)
	case knockFetch:
		if err := sayTo(stream, nil); err != nil {
			return err
		}
		return pack(stream, k.Dir)
	}
	return sayTo(stream, fmt.Errorf("agent: nobody here answers a knock for %q", k.Kind))
}

// sayTo answers a knock, and lifts its deadline.
func sayTo(stream net.Conn, err error) error {
	var a knocked
	if err != nil {
		a.Error = err.Error()
		errors.As(err, &a.Errno)
		var t net.Error
		a.Timeout = errors.As(err, &t) && t.Timeout() && a.Errno == 0
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := stream.Write(append(b, '\n')); err != nil {
		return err
	}
	return stream.SetDeadline(time.Time{})
}

// dial connects to a port of this very host and carries bytes until either end closes.
func (s *doorServer) dial(ctx context.Context, stream net.Conn, k knock) error {
	ctx, cancel := context.WithTimeout(ctx, min(max(k.Timeout, 1), doorDialLimit))
	defer cancel()
	if err := stream.SetDeadline(time.Now().Add(doorWait + doorDialLimit)); err != nil {
		return err
	}
	if err := ownAddress(k.Addr); err != nil {
		return sayTo(stream, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", k.Addr)
	if err != nil {
		return sayTo(stream, err)
	}
	defer conn.Close()
	if err := sayTo(stream, nil); err != nil {
		return err
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(stream, conn)
		stream.Close() // what was written before goes out first
		conn.Close()
	}()
	io.Copy(conn, stream)
	conn.Close()
	<-back
	return nil
}

// ownAddress refuses to lead anywhere but to this host.
func ownAddress(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	mine := func(a net.Addr) bool { n, ok := a.(*net.IPNet); return ok && n.IP.Equal(ip) }
	if ip == nil || !ip.IsLoopback() && !slices.ContainsFunc(addrs, mine) {
		return fmt.Errorf("agent: %s is no address of this host; it has %v", host, addrs)
	}
	return nil
}

func (s *doorServer) log(line string) {
	if s.o.Log != nil {
		s.o.Log(line)
	}
}
