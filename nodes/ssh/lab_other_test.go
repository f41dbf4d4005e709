//go:build !linux

package ssh

func labMain(string) {}
