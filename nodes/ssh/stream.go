package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"chaos/nodes/agent"
)

// enter starts an agent and opens its door. ctx bounds the opening alone.
func (r *remote) enter(ctx context.Context) (*agent.Door, error) {
	ctx, cancel := context.WithTimeout(ctx, greetWait)
	defer cancel()
	session, err := r.conn.session(ctx)
	if err != nil {
		return nil, err
	}
	complaint := &bounded{max: tailMax}
	session.Stderr = complaint
	if r.log != nil {
		session.Stderr = io.MultiWriter(complaint, r.log)
	}
	s := &sessionStream{session: session}
	var out io.Reader
	if s.in, err = session.StdinPipe(); err == nil {
		out, err = session.StdoutPipe()
	}
	var line string
	if err == nil {
		s.follow(out)
		line, err = commandLine(r.with("env", runMark+"="+r.run, agentMark+"=1", r.program, "agent", "--door")...)
	}
	if err == nil {
		err = session.Start("exec " + line)
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	d, err := agent.OpenDoor(ctx, s, "")
	if err != nil {
		time.Sleep(lastWords)
		s.Close()
		if said := complaint.text(); said != "" {
			err = fmt.Errorf("%w; it says: %s", err, said)
		}
		return nil, err
	}
	r.stream = s
	return d, nil
}

// A sessionStream is a command's input and output as one stream.
type sessionStream struct {
	session *ssh.Session
	in      io.WriteCloser
	out     *io.PipeReader
	once    sync.Once
	writing sync.Mutex // a channel's end may not be sent beside what it carries
}

// follow copies the command's output to where a reader can be sent away: one that
// hangs on the other end does not close it.
func (s *sessionStream) follow(out io.Reader) {
	r, w := io.Pipe()
	s.out = r
	go func() {
		_, err := io.Copy(w, out)
		w.CloseWithError(err) // nil is the end of the stream
	}()
}

func (s *sessionStream) Read(b []byte) (int, error) { return s.out.Read(b) }

func (s *sessionStream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.in.Write(b)
}

// Close ends the command's input, by which an agent knows that it is to end.
// Where a write is stuck the session's end is that of its input, too.
func (s *sessionStream) Close() (err error) {
	s.once.Do(func() {
		err = s.out.Close()
		if s.writing.TryLock() {
			err = errors.Join(err, ignoreEOF(s.in.Close()))
			s.writing.Unlock()
		}
		err = errors.Join(err, ignoreEOF(s.session.Close()))
	})
	return err
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
