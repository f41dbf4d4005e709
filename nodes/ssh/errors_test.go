package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// What hosts complain of is told so that a line to copy stands alone, the same
// words are said once, and so is a remedy that several have in common.
func TestErrorsOfHosts(t *testing.T) {
	rs := []*remote{{e: entry{name: "a"}}, {e: entry{name: "b"}}, {e: entry{name: "c"}}}
	gate := &errorAt{"on the way there", errors.New("ssh: gate:22 is unknown. Add:\n  gate key")}
	refuses := func(n int) error {
		return &errorAt{rs[n].e.name, fmt.Errorf("ssh: %d:22 refuses the key; remedy: another key", n)}
	}
	for _, test := range []struct {
		errs []error
		want string
	}{
		{[]error{nil, refuses(1), nil}, "ssh: b: 1:22 refuses the key; remedy: another key"},
		{[]error{&errorAt{"a", gate}, nil, &errorAt{"c", gate}}, "ssh: a, c: on the way there: gate:22 is unknown. Add:\n  gate key"},
		{[]error{refuses(0), &errorAt{"b", gate}, refuses(2)},
			"ssh: a: 0:22 refuses the key\nssh: c: 2:22 refuses the key\nremedy for a, c: another key\nssh: b: on the way there: gate:22 is unknown. Add:\n  gate key"},
		{[]error{errors.New("ssh: a: full; remedy: room"), errors.New("ssh: b: full; remedy: room"), errors.New("ssh: c: odd; remedy: even")},
			"ssh: a: full\nssh: b: full\nremedy for a, b: room\nssh: c: odd; remedy: even"},
	} {
		if got := together(rs, test.errs); got == nil || got.Error() != test.want {
			t.Errorf("told\n%v\nwant\n%s", got, test.want)
		}
	}
	if err := together(rs, make([]error, 3)); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
	if err := together(rs, []error{nil, errors.New("x"), &errorAt{"c", context.Canceled}}); !errors.Is(err, context.Canceled) {
		t.Errorf("it is no longer known for what it is: %v", err)
	}
}

// A way is open when the other host says something, though it be no.
func TestAnswered(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.ECONNREFUSED: true, syscall.ECONNRESET: true,
		syscall.EHOSTUNREACH: false, syscall.ENETUNREACH: false, syscall.ETIMEDOUT: false, context.DeadlineExceeded: false,
	} {
		dialed := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
		if got := answered(dialed); got != want {
			t.Errorf("%v: open %t, want %t", dialed, got, want)
		}
	}
}
