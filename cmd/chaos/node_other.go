//go:build !linux

package main

import (
	"fmt"
	"os"
)

// tether can't have the kernel watch the parent here; it only looks once.
func tether(parent int) error {
	if now := os.Getppid(); parent != 0 && now != parent {
		return fmt.Errorf("the parent process is gone: it is %d", now)
	}
	return nil
}
