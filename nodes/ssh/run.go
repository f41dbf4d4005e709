package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	outputMax = 4 << 20          // bytes kept of what a command prints
	runWait   = 30 * time.Second // for one short command
	tailMax   = 2 << 10          // bytes of what a command complained, in an error
)

// run carries out one command and returns what it printed. It ends, at the
// latest, after runWait.
func (c *connection) run(ctx context.Context, stdin []byte, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	return c.runLong(ctx, bytes.NewReader(stdin), words...)
}

// runLong is run bounded by ctx alone.
func (c *connection) runLong(ctx context.Context, stdin io.Reader, words ...string) ([]byte, error) {
	line, err := commandLine(words...)
	if err != nil {
		return nil, err
	}
	session, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	out, complaint := &bounded{max: outputMax}, &bounded{max: tailMax}
	session.Stdin, session.Stdout, session.Stderr = stdin, out, complaint
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	err = session.Run("exec " + line)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	var ended *ssh.ExitError
	switch {
	case err == nil:
		return out.Bytes(), nil
	case errors.As(err, &ended):
		return out.Bytes(), &commandError{status: ended.ExitStatus(), signal: ended.Signal(), said: complaint.text()}
	default:
		return out.Bytes(), fmt.Errorf("ssh: running %s: %w", words[0], err)
	}
}

// session opens a channel for one command. ctx bounds it, by ending the
// connection: a server that does not answer this answers nothing. One that was
// not even asked keeps it, for what is to be tidied up.
func (c *connection) session(ctx context.Context) (*ssh.Session, error) {
	if !c.alive() {
		return nil, errLost
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, c.end)
	session, err := c.NewSession()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	switch refused := new(ssh.OpenChannelError); {
	case errors.As(err, &refused):
		return nil, fmt.Errorf("ssh: opening a session: %w; if sessions are refused: MaxSessions in sshd_config must be 10, its default, or more", err)
	case err != nil:
		return nil, fmt.Errorf("ssh: opening a session: %w (%w)", errLost, err)
	}
	return session, nil
}

// A commandError is a command that failed by itself.
type commandError struct {
	status       int
	signal, said string
}

func (e *commandError) Error() string {
	how := fmt.Sprintf("it ended with status %d", e.status)
	if e.signal != "" {
		how = "it was ended by signal " + e.signal
	}
	if e.said == "" {
		return how
	}
	return fmt.Sprintf("%s, saying: %s", how, e.said)
}

// A bounded buffer keeps the first max bytes and takes the rest without keeping it.
type bounded struct {
	max int
	mu  sync.Mutex
	b   bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := b.max - b.b.Len(); room > 0 {
		b.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Bytes is what was kept so far.
func (b *bounded) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func (b *bounded) text() string { return strings.TrimSpace(string(b.Bytes())) }

func join(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return strings.Join(s, ", ")
}

// isRefused knows a login that no key opened.
func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), tooManyRefused)
}
