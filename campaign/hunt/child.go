package hunt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
)

// ended is how a child ended.
type ended struct {
	status int
	out    []byte // what it printed
	words  []byte // what it said on standard error
}

// failure is an error that shows how the child ended.
func (e ended) failure(what string) error {
	return fmt.Errorf("%s: exit status %d\n%s", what, e.status, clipped(append(e.words, e.out...)))
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
