package docker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

const (
	frameHeader = 8         // bytes: the kind of output, three zeros, the length
	frameMax    = 16 << 20  // bytes of one frame; more is no engine
	errorsKept  = 4 << 10   // bytes of what a host said on its standard error, for a report
	errorsMax   = 256 << 10 // bytes of it that reach the log
)

// A stream is both ways to a container's first process: its standard input, and
// its standard output taken out of the frames in which the engine sends it. What
// the process says on its standard error goes to the log.
type stream struct {
	conn io.ReadWriteCloser
	in   io.Reader // conn, buffered
	log  func(string)

	left int             // bytes of the frame being read
	kind stdcopy.StdType // of it
	head [frameHeader]byte

	mu   sync.Mutex
	line []byte // of standard error, so far
	said []string
	size int // bytes of standard error so far
	once sync.Once
}

// attach opens the stream of a container, which need not run yet.
func (e *engine) attach(ctx context.Context, id string, log func(string)) (*stream, error) {
	r, err := e.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return nil, fmt.Errorf("docker: attaching to a container: %w", err)
	}
	return &stream{conn: r.Conn, in: r.Reader, log: log}, nil
}

// exec starts another agent in a container that runs, and opens its stream.
func (e *engine) exec(ctx context.Context, id string, command []string, log func(string)) (*stream, error) {
	made, err := e.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: command, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return nil, fmt.Errorf("docker: preparing an agent in a container: %w", err)
	}
	r, err := e.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, fmt.Errorf("docker: starting an agent in a container: %w", err)
	}
	return &stream{conn: r.Conn, in: r.Reader, log: log}, nil
}

// Read returns bytes of standard output alone.
func (s *stream) Read(b []byte) (int, error) {
	for s.left == 0 || s.kind != stdcopy.Stdout {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n, err := s.in.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}

// next reads on to the next frame's content.
func (s *stream) next() error {
	if s.left > 0 { // standard error
		b := make([]byte, min(s.left, errorsKept))
		n, err := s.in.Read(b)
		s.left -= n
		s.errors(b[:n])
		return err
	}
	if _, err := io.ReadFull(s.in, s.head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return err
	}
	s.kind = stdcopy.StdType(s.head[0])
	size := binary.BigEndian.Uint32(s.head[4:])
	if s.kind > stdcopy.Stderr || size > frameMax {
		return fmt.Errorf("docker: the engine's stream makes no sense: a frame of kind %d, %d bytes", s.kind, size)
	}
	s.left = int(size)
	return nil
}

// errors takes what the process says on its standard error.
func (s *stream) errors(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size += len(b); s.size > errorsMax {
		return
	}
	s.line = append(s.line, b...)
	for {
		line, rest, ok := bytes.Cut(s.line, []byte{'\n'})
		if !ok {
			break
		}
		s.said = append(s.said, string(line))
		if len(s.said) > 8 {
			s.said = s.said[1:]
		}
		s.log(string(line))
		s.line = rest
	}
}

// last is what the process said last, for the report of a failure.
func (s *stream) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(strings.Join(append(s.said, string(s.line)), "; "))
}

// Write reaches the standard input.
func (s *stream) Write(b []byte) (int, error) { return s.conn.Write(b) }

// Close ends both ways. It may be called twice.
func (s *stream) Close() (err error) {
	s.once.Do(func() { err = s.conn.Close() })
	return err
}
