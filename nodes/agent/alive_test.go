package agent_test

import (
	"os"
	"syscall"
)

// alive tells whether a process still exists.
func alive(p *os.Process) bool { return p.Signal(syscall.Signal(0)) == nil }
