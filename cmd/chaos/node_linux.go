package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// tether has the kernel kill this process when its parent dies. The signal
// belongs to the thread that asked for it; Go ends no thread while nobody asks.
func tether(parent int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("arming the parent-death signal: %w", err)
	}
	// A parent that died before the call left no signal.
	if now := os.Getppid(); now != before || (parent != 0 && now != parent) {
		return fmt.Errorf("the parent process is gone: it is %d", now)
	}
	return nil
}
