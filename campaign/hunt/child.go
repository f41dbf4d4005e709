package hunt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// ended is how a child ended.
type ended struct {
	status int
	out    []byte // what it printed
	words  []byte // what it said on standard error
}

// failure is an error that shows how the child ended.
func (e ended) failure(what string) error {
	words := e.words
	if len(words) == 0 {
		words = e.out
	}
	return fmt.Errorf("%s: exit status %d\n%s", what, e.status, clipped(words))
}

// How many lines of what a child said are shown.
const (
	wordsMax = 20
	panicMax = 9 // the reason, and the first few frames
)

// panicked is how Go begins to tell of the end of a program.
var panicked = regexp.MustCompile(`(?m)^(panic|fatal error): `)

// clipped is the end of what a child said, of a panic its beginning.
func clipped(words []byte) string {
	if at := panicked.FindIndex(words); at != nil {
		lines := strings.Split(string(bytes.TrimSpace(words[at[0]:])), "\n")
		return strings.Join(lines[:min(len(lines), panicMax)], "\n")
	}
	lines := strings.Split(string(bytes.TrimSpace(words)), "\n")
	return strings.Join(lines[max(0, len(lines)-wordsMax):], "\n")
}

// spawn runs a program to its end, and keeps what it says.
func spawn(ctx context.Context, program string, args ...string) (ended, error) {
	var out, words bytes.Buffer
	status, err := Execute(ctx, &out, &words, program, args...)
	return ended{status, out.Bytes(), words.Bytes()}, err
}

// Execute runs a program to its end and returns its exit status. When ctx ends
// it gets an interrupt, time to heal what it hurt, and then is killed. It dies
// with us, where the kernel can do that.
func Execute(ctx context.Context, out, words io.Writer, program string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = out, words
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = killWait
	cmd.SysProcAttr = mortal()
	runtime.LockOSThread() // a parent's death is that of the thread
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	if cmd.ProcessState == nil || err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}
