package agent

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// Standard is this process's own input and output as one stream. Closing it
// sends whoever reads or writes away at once, even where the other end of the
// stream has only gone silent: an agent could not end otherwise.
func Standard() io.ReadWriteCloser {
	return standard{wakeable(os.Stdin), wakeable(os.Stdout)}
}

type standard struct {
	io.ReadCloser
	out io.WriteCloser
}

func (s standard) Write(b []byte) (int, error) { return s.out.Write(b) }

func (s standard) Close() error { return errors.Join(s.ReadCloser.Close(), s.out.Close()) }

// wakeable hands a file to the runtime's poller, where it is not there already.
// A terminal stays as it is: it is shared with who started us.
func wakeable(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 || f.SetDeadline(time.Time{}) == nil {
		return f
	}
	fd := int(f.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}
