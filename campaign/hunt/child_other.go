//go:build !linux

package hunt

import "syscall"

// mortal is nothing here: a child that outlives us ends at its own bound.
func mortal() *syscall.SysProcAttr { return nil }
